#!/bin/busybox sh
# First program of the lane's machine: the system disk (vda, read-only) below a tmpfs, the job disk (vdb) at /job.
PATH=/bin:/usr/sbin:/usr/bin:/sbin
/bin/busybox mkdir -p /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
  options=
  # Under emulation these three cost time, and none of them is what is tested.
  [ "$module" = kvm_amd ] && options="vgif=0 vls=0 avic=0"
  insmod "/modules/$module.ko" $options || echo "cannot load $module"
done < /modules/order
mount -t ext4 -o ro /dev/vda /system
mount -t tmpfs changes /changes
mkdir /changes/upper /changes/work
mount -t overlay -o lowerdir=/system,upperdir=/changes/upper,workdir=/changes/work overlay /root
mkdir -p /root/job
mount -t ext4 -o noatime /dev/vdb /root/job
for directory in dev proc sys; do mount --move "/$directory" "/root/$directory"; done
exec switch_root /root /bin/sh /job/start.sh
