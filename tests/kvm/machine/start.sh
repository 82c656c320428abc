#!/bin/sh
# Second and last program of the lane's machine (pid 1): prepares what a service manager would, runs the lane, switches off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DENO_DIR=/job/deno-cache DENO_NO_UPDATE_CHECK=1 NO_COLOR=1
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ip link set lo up
cd /job
./deno run --quiet --allow-all lane.js > /dev/console 2> out/lane.log
echo "the lane ended with $?" > /dev/console
dmesg > out/kernel.log
cd /
# This script itself is on it, so it cannot be unmounted.
mount -o remount,ro /job || sync
busybox poweroff -f
