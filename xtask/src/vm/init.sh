#!/bin/busybox sh
# The guest's first process: makes the machine that a command expects, runs it, tells how it ended.
# ttyS0 is the kernel's console, ttyS1 the command's output. A line that starts with \001 is ours.
/bin/busybox --install -s /bin
export PATH=/opt/collector:/bin HOME=/root TERM=dumb COLLECTOR_DIST=/opt/collector
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts /tmp /var/tmp
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
hostname guest
ifconfig lo 127.0.0.1 up
stty -F /dev/ttyS1 raw
# Each CPU tells that it runs, without new processes.
mkfifo /pulse
exec 3<>/pulse
for cpu in 0 1; do
	taskset $((cpu + 1)) sh -c "while :; do echo alive $cpu; read -t 5 x <&3; done" >/dev/ttyS0 &
done
exec 3<&- </dev/null >/dev/ttyS1 2>&1
printf '\001hello\n'
cd /root
sh /command
printf '\001exit %s\n' $?
# The host ends the machine when it has read that.
sleep 60
reboot -f
