#!/bin/bash
#SBATCH --job-name=embodichain
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:INT@300
# A run over Slurm's nodes: sbatch cluster/slurm.sh tiny_cpu --max-reads 10. Node 0 learns and holds the ring; a run that is
# stopped by the limit has a checkpoint: sbatch cluster/slurm.sh --resume goes on.
set -euo pipefail

out=${EMBODICHAIN_OUT:-$PWD/runs/slurm-${SLURM_JOB_NAME}}
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 OMP_WAIT_POLICY=PASSIVE EMBODICHAIN_LOG=json
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
workers=$((SLURM_CPUS_PER_TASK * SLURM_JOB_NUM_NODES - 2))

srun --overlap --nodes=1 --ntasks=1 -w "$head" \
  ray start --head --node-ip-address="$ip" --port="$port" --num-cpus=$((SLURM_CPUS_PER_TASK - 2)) --include-dashboard=false --block &
until srun --overlap --nodes=1 --ntasks=1 -w "$head" ray health-check --address "$ip:$port"; do sleep 2; done
if ((SLURM_JOB_NUM_NODES > 1)); then
  srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
    ray start --address="$ip:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi

# The learner runs in this shell's own step, which is on the first node: srun would keep an interrupt for itself. As a background
# process it may ignore INT until it listens, so it is sent TERM, which a run answers in the same way: with a checkpoint.
embodichain run "$@" --out "$out" --stream.address "$ip:$port" --workers "$workers" --json &
learner=$!
trap 'kill -TERM "$learner" 2>/dev/null || true' INT
code=0
wait "$learner" || code=$?
while kill -0 "$learner" 2>/dev/null; do # the signal ended the wait, and not the learner: a job that ends now has no checkpoint
  code=0
  wait "$learner" || code=$?
done
exit "$code"
