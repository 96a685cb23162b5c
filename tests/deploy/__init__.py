"""Tests of images, chart and monitoring."""
