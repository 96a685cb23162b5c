#!/bin/bash
#SBATCH --job-name="align reads"
#SBATCH -N 2 -n 16 --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH -t 1-02:30:00
#SBATCH --mail-user=a@example.org # nobody
module load bwa
srun bwa mem -t $SLURM_CPUS_PER_TASK ref.fa reads.fq > out.sam
