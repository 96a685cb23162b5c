"""The capacity plan: unit costs, a simulation fed by them and checked against load tests, replicas and prices."""
