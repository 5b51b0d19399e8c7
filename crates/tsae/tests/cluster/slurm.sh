#!/usr/bin/env bash
# Runs docs/cluster.md's Slurm recipe on a real Slurm of two hosts, which are network namespaces of this machine:
#
#     crates/tsae/tests/cluster/slurm.sh target/release/tsae [a tsae with the feature "mpi"]
#
# A sweep, of whose array one host dies in the middle; and a harvest, during which a host's link is cut, so that it works on while its share is
# started a second time; and, if there is a second program, one SAE that processes on both hosts share, of which one's link is cut. All have to end with
# the bytes of one process. It takes two to three minutes, as root on Linux, with Debian's slurmctld,
# slurmd, slurm-client and munge; elsewhere it says why it is skipped. Slurm takes ten seconds to miss a host here, and minutes as it is installed.
set -euo pipefail

skip() {
    echo "skipped: $1" >&2
    exit 0
}
[ "$(uname)" = Linux ] || skip "a Slurm of two hosts wants Linux's network namespaces"
[ "$(id -u)" = 0 ] || skip "a Slurm of two hosts wants root"
for program in slurmctld slurmd sbatch squeue munged ip nsenter unshare; do
    command -v "$program" > /dev/null || skip "$program is not installed (apt-get install slurmctld slurmd slurm-client munge iproute2)"
done
tsae=$(realpath "$1")
mpi=$(realpath "${2:-$1}")
work=$(mktemp -d)
hosts=(tsae1 tsae2)

of_slurm() { cat "$work"/*.pid 2> /dev/null || true; }
end() {
    local status=$?
    trap - EXIT
    [ $status = 0 ] || tail -n 20 "$work"/*.log "$work"/*.out 2> /dev/null >&2 || true
    for host in "${hosts[@]}"; do
        for pid in $(ip netns pids "$host" 2> /dev/null); do kill -9 "$pid" 2> /dev/null || true; done
        ip netns del "$host" 2> /dev/null || true
        ip link del "${host}v" 2> /dev/null || true
    done
    for pid in $(of_slurm); do kill "$pid" 2> /dev/null || true; done
    ip link del tsaebr 2> /dev/null || true
    sleep 1
    rm -rf "$work"
    exit $status
}
trap end EXIT

# Two hosts on a bridge.
ip link add tsaebr type bridge 2> /dev/null || skip "this machine lets nobody make a network bridge"
ip addr add 10.77.9.1/24 dev tsaebr
ip link set tsaebr up
for i in 1 2; do
    host=tsae$i
    ip netns add "$host" 2> /dev/null || skip "this machine lets nobody make network namespaces"
    ip link add "${host}v" type veth peer name eth0 netns "$host"
    ip link set "${host}v" master tsaebr up
    ip -n "$host" addr add "10.77.9.1$i/24" dev eth0
    ip -n "$host" link set eth0 up
    ip -n "$host" link set lo up
done

# Slurm.
export SLURM_CONF=$work/slurm.conf
head -c 1024 /dev/urandom > "$work/key"
chmod 400 "$work/key"
cat > "$SLURM_CONF" << EOF
ClusterName=tsae
SlurmctldHost=$(hostname -s)(10.77.9.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool.%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
MinJobAge=3600
NodeName=tsae[1-2] NodeAddr=10.77.9.1[1-2] CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=tsae[1-2] Default=YES MaxTime=INFINITE State=UP
EOF
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n' > "$work/cgroup.conf"
chmod 755 "$work"
munged --force --key-file="$work/key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" --log-file="$work/munged.log" --seed-file="$work/seed"
mkdir "$work/state"
slurmctld -c
daemon() { nsenter --net="/run/netns/$1" unshare --uts sh -c "hostname $1; exec slurmd -N $1"; }
for host in "${hosts[@]}"; do
    mkdir "$work/spool.$host"
    daemon "$host"
done
until [ "$(sinfo -h -o %T -N | sort -u)" = idle ]; do sleep 0.5; done
echo "Slurm $(sinfo --version | cut -d' ' -f2) with two hosts" >&2

cd "$work"
export TSAE_PROGRESS=off RAYON_NUM_THREADS=1
cat > pareto.toml << 'EOF'
model = "tiny-gpt2"
sampled = 16_384
hooks = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
ks = [4, 8]
evaluated_on = 2048
train = { tokens = 60_000, lr = 1e-3, checkpoint_seconds = 0.5, held_out_tokens = 2048, evaluations = 2 }
arms = [{ name = "SAE", expansion = 4 }, { name = "TSAE", expansion = 4, lookup = "unigram" }]
EOF
of=(harvest tiny-gpt2 --sampled 60000 --hook blocks.1.hook_resid_pre --hook blocks.3.hook_resid_pre --batch 1 --shard-tokens 1024)
"$tsae" sweep pareto.toml --out sweep-alone --quiet > /dev/null
"$tsae" "${of[@]}" --out acts-alone --quiet > /dev/null

# Waits until nothing is left in the queue.
ended() { while [ -n "$(squeue -h)" ]; do sleep 0.5; done; }
# Once a host is missed, Slurm lets its task rest for two minutes before it starts it again.
started_again_at_once() {
    local rests=
    until [ -n "$rests" ]; do
        sleep 0.5
        rests=$(squeue -h -n tsae-shares -o '%i %r' | sed -n 's/ BeginTime$//p')
    done
    scontrol update "jobid=$rests" starttime=now
}
# How often a task was started again.
restarts() { scontrol show job "$1" | grep -oE 'Restarts=[0-9]+' | sort -u | tail -n 1; }
same() {
    diff -r --exclude=.lock --exclude=.locks "$1" "$2"
    echo "$2 is $1, byte for byte" >&2
}

# A host dies: its slurmd, and all that it has started.
"$tsae" sweep pareto.toml --out sweep --jobs slurm --shares 2 > sweep.sh
submitted=$(sh sweep.sh --exclusive --open-mode=append --output="$work/%x-%a.out")
echo "$submitted" >&2
until [ -n "$(squeue -h -w tsae2 -n tsae-shares)" ] && [ -n "$(find sweep -path '*blocks.2*' -name checkpoint.safetensors)" ]; do sleep 0.1; done
for pid in $(ip netns pids tsae2); do kill -9 "$pid" 2> /dev/null || true; done
echo "tsae2 is dead" >&2
started_again_at_once
rm -f "$work/slurmd.tsae2.pid"
until [ -z "$(squeue -h -n tsae-shares)" ]; do sleep 0.5; done
shares=$(echo "$submitted" | sed 's/.*shares \([0-9]*\),.*/\1/')
echo "the array: $(restarts "$shares")" >&2
[ "$(restarts "$shares")" != Restarts=0 ]
ended
grep -q TSAE tsae-collect-*.out
same sweep-alone sweep
# The variables of an array are what `--only auto` takes them for.
sbatch --parsable --wait --array=5-6 --output="$work/auto-%a.out" --wrap="exec $tsae sweep pareto.toml --out sweep --only auto" > /dev/null
same sweep-alone sweep

# A host comes back, and its link is cut while it works.
daemon tsae2
until [ "$(sinfo -h -o %T -N | sort -u)" = idle ]; do sleep 0.5; done
rm -f tsae-*.out
"$tsae" "${of[@]}" --out acts --jobs slurm --shares 2 > harvest.sh
submitted=$(sh harvest.sh --exclusive --open-mode=append --output="$work/%x-%a.out")
until [ -n "$(squeue -h -w tsae2 -n tsae-shares)" ] && [ -e acts/shard-00001.json ]; do sleep 0.05; done
ip -n tsae2 link set eth0 down
echo "the link of tsae2 is cut" >&2
started_again_at_once
ended
shares=$(echo "$submitted" | sed 's/.*shares \([0-9]*\),.*/\1/')
echo "the array: $(restarts "$shares")" >&2
same acts-alone acts
[ $# -gt 1 ] || exit 0

# Both hosts share one SAE, and a link is cut while they exchange. Slurm misses the host, ends the job, and starts it again when both are there.
ip -n tsae2 link set eth0 up
until [ "$(sinfo -h -o %T -N | sort -u)" = idle ]; do sleep 0.5; done
cat > run.toml << 'EOF'
model = "tiny-gpt2"
hook = "blocks.2.hook_resid_pre"
sampled = 40_000
train = { tokens = 400_000, batch = 1024, lr = 1e-3, checkpoint_seconds = 0.2 }
[[sae]]
name = "TSAE"
expansion = 4
k = 8
lookup = "unigram"
EOF
"$mpi" train run.toml --out ranks-alone > /dev/null
for exchange in rows latents; do
    out=ranks-$exchange
    cat > ranks.sh << EOF
#!/bin/sh
export UCX_TLS=tcp,self UCX_NET_DEVICES=eth0
exec srun --mpi=pmi2 --kill-on-bad-exit=1 $mpi train run.toml --out $out --exchange $exchange
EOF
    job=$(sbatch --parsable -N2 --ntasks-per-node=1 --exclusive --requeue --open-mode=append --output="$work/$out.out" ranks.sh)
    until [ -e $out/TSAE/checkpoint.safetensors ]; do sleep 0.05; done
    ip -n tsae2 link set eth0 down
    echo "the link of tsae2 is cut" >&2
    until squeue -h -j "$job" -o '%r' | grep -q BeginTime; do sleep 0.5; done
    [ ! -e $out/TSAE/cfg.json ]
    ip -n tsae2 link set eth0 up
    scontrol update "jobid=$job" starttime=now
    ended
    echo "the job: $(restarts "$job")" >&2
    [ "$(restarts "$job")" = Restarts=1 ]
    same ranks-alone $out
done
