#!/bin/bash
# slurm_node.sh FOLDER COMMAND...: SLURM with this machine as its only node, of this user, while a command runs.
#
# It needs munged, slurmctld and slurmd (Debian: apt-get install slurm-wlm munge), and no rights of root. Everything that
# they write is in FOLDER.
set -eu
mkdir -p "$1/state" "$1/spool"
folder=$(realpath "$1")
shift
PATH=$PATH:/usr/sbin
export SLURM_CONF=$folder/slurm.conf
host=$(hostname -s)
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

(umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
cat > "$SLURM_CONF" <<EOF
ClusterName=single
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 $(slurmd -C | grep -oE '(CPUs|Boards|SocketsPerBoard|CoresPerSocket|ThreadsPerCore)=[0-9]+' | tr '\n' ' ')
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
EOF

daemons=()
trap 'kill "${daemons[@]}" 2> /dev/null || true; wait' EXIT
# --force: the folder may be one that only this user can look into, and nobody else has to.
munged --foreground --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" --pid-file "$folder/munge.pid" \
  --log-file "$folder/munged.log" --seed-file "$folder/munge.seed" --num-threads 1 > "$folder/munged.out" 2>&1 &
daemons+=($!)
for _ in $(seq 100); do [ -S "$folder/munge.socket" ] && break; sleep 0.1; done
if [ ! -S "$folder/munge.socket" ]; then
  cat "$folder/munged.out" >&2
  exit 1
fi
slurmctld -D > /dev/null 2>&1 &
daemons+=($!)
slurmd -D > /dev/null 2>&1 &
daemons+=($!)
is_idle() { [ -n "$(sinfo --noheader --states=idle --format=%n 2> /dev/null)" ]; }
until is_idle || [ $SECONDS -gt 60 ]; do sleep 0.2; done
if ! is_idle; then
  echo "the node does not become idle; see $folder/slurmctld.log and $folder/slurmd.log" >&2
  exit 1
fi
"$@"
