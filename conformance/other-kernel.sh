#!/bin/bash
# conformance/other-kernel.sh - runs a command on Debian's kernel, for what the machine's own kernel lacks
#
#   sudo conformance/other-kernel.sh [--seconds N] COMMAND [ARGUMENTS]
#
#   sudo conformance/other-kernel.sh ip link add v0 type vrf table 10
#   sudo conformance/other-kernel.sh target/debug/deps/bridge-0123456789abcdef vlan --show-output
#
# COMMAND runs as root in a virtual machine that has the files of this one: its / is this machine's /, and what is
# written there is in memory and goes with it. The current directory, PATH, HOME and the variables RUST_… and PODWIRE_…
# are the caller's; stdin is empty. Output and exit status are the command's, stderr goes to stdout. There is no network but `lo`.
# After N seconds (600) the machine is stopped, which is a failure.
#
# The processor is emulated by qemu, so neither hardware support nor a setting of this machine is needed; what takes a
# second here takes twenty there. Linux is ready after about five seconds.
#
# On Debian, missing packages are installed with apt: qemu-system-x86, busybox-static, kmod, cpio. The kernel is the package that
# linux-image-cloud-amd64 names: it is downloaded, not installed, and kept in ${XDG_CACHE_HOME:-~/.cache}/podwire.
# Where one of them can't be had, the script says "skipped: " and why, and its exit status is 0.

set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=.ci/build.sh
. "$root/.ci/build.sh"

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/podwire
seconds=600

main() {
    case ${1:-} in
        '' | --help | -h) head_of_file "$0" && exit ;;
        --seconds) seconds=$2 && shift 2 ;;
    esac
    [ "$(id -u)" -eq 0 ] || die "only root can hand on every file of this machine: sudo $0 $*"
    [ "$(uname -m)" = x86_64 ] || skip "this is written for x86_64"
    command -v apt-get >/dev/null || skip "the kernel is a Debian package, and there is no apt-get here"
    install_packages
    find_kernel
    work=$(mktemp -d "$cache/run.XXXXXX")
    trap 'stop_server; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
    write_command "$@"
    make_initrd
    boot
}

skip() { say "skipped: $*" && exit; }

# --- what it needs ------------------------------------------------------------------------------------------------

install_packages() {
    local missing=()
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 || missing+=(busybox-static)
    command -v depmod >/dev/null || missing+=(kmod)
    command -v cpio >/dev/null || missing+=(cpio)
    if [ ${#missing[@]} -ne 0 ]; then
        step "Installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt_install "${missing[@]}" || { apt-get update -q && apt_install "${missing[@]}"; } ||
            skip "apt could not install ${missing[*]}"
    fi
    # From Debian 13 on it is a package of its own.
    if ! find_server; then apt_install virtiofsd && find_server || skip "there is no virtiofsd here"; fi
}

apt_install() { apt-get install -q -y --no-install-recommends "$@" </dev/null; }

find_server() {
    for server in /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd; do
        if [ -x "$server" ]; then return; fi
    done
    return 1
}

# find_kernel: sets `kernel`, the directory of an unpacked package, and `release`, what `uname -r` says of it.
find_kernel() {
    local package
    mkdir -p "$cache"
    package=$(newest_package)
    if [ -z "$package" ]; then apt-get update -q >&2 || true; package=$(newest_package); fi
    kernel=$cache/$package
    if [ -z "$package" ] || { [ ! -d "$kernel" ] && ! unpack "$package"; }; then
        # Better an earlier one than none.
        kernel=$(find "$cache" -maxdepth 1 -name 'linux-image-*' | sort -V | tail -n 1)
        [ -n "$kernel" ] || skip "apt has no kernel: ${package:-linux-image-cloud-amd64} can't be downloaded"
    fi
    release=$(ls "$kernel/lib/modules")
}

newest_package() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1; }

unpack() {
    local place
    step "Downloading $1"
    place=$(mktemp -d "$cache/download.XXXXXX")
    # apt reads as a user of its own, who may not come here.
    if (cd "$place" && apt-get download -q -o APT::Sandbox::User=root "$1" </dev/null && dpkg-deb -x ./*.deb files); then
        [ -d "$place/files/lib" ] || ln -s usr/lib "$place/files/lib"
        depmod -b "$place/files" "$(ls "$place/files/lib/modules")"
        mv "$place/files" "$cache/$1"
    fi
    rm -rf "$place"
    [ -d "$cache/$1" ]
}

# --- the machine --------------------------------------------------------------------------------------------------

# What runs in it once it has this machine's files. Everything is quoted here, for nothing is asked there.
write_command() {
    local variable
    {
        for variable in PATH HOME $(compgen -e | grep -E '^(RUST|PODWIRE)_' || true); do
            printf 'export %s=%q\n' "$variable" "${!variable}"
        done
        printf 'cd %q || exit\n' "$PWD"
        printf 'exec'
        printf ' %q' "$@"
        echo
    } >"$work/command"
    cat >"$work/start" <<START
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb
mount -t tmpfs tmpfs /run && mkdir /run/tmp && export TMPDIR=/run/tmp
mkdir -p /dev/pts /dev/shm /dev/net && mount -t devpts devpts /dev/pts && mount -t tmpfs tmpfs /dev/shm
mknod /dev/net/tun c 10 200
mkdir -p /lib/modules/$release && mount --bind $(printf %q "$kernel")/lib/modules/$release /lib/modules/$release
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for port in 0 2; do stty -F /dev/ttyS\$port raw; done
bash $(printf %q "$work/command") </dev/null >/dev/ttyS0 2>&1
echo \$? >/dev/ttyS2
exec busybox poweroff -f
START
}

# The first files: a shell, the modules that reach the others, and the switch to them.
make_initrd() {
    local files=$work/initrd module
    mkdir -p "$files"/{bin,proc,sys,dev,host,memory}
    cp /bin/busybox "$files/bin/"
    {
        echo '#!/bin/busybox sh'
        echo 'mount() { busybox mount "$@" || busybox poweroff -f; }'
        echo 'mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev'
        for module in $(modules_in_order); do
            put_module "$module" "$files/$(basename "${module%.xz}")"
            echo "busybox insmod /$(basename "${module%.xz}")"
        done
        cat <<SWITCH
mount -t virtiofs -o ro host /host
mount -t tmpfs tmpfs /memory
busybox mkdir /memory/upper /memory/work /memory/root
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /memory/root
for place in dev proc sys; do mount -o move /\$place /memory/root/\$place; done
exec busybox switch_root /memory/root /bin/bash $(printf %q "$work/start")
SWITCH
    } >"$files/init"
    chmod +x "$files/init"
    (cd "$files" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd.gz"
}

modules_in_order() {
    local module
    for module in virtio_pci virtiofs overlay; do
        modprobe -d "$kernel" -S "$release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

put_module() {
    case $1 in
        *.xz) xz -dc "$1" >"$2" ;;
        *) cp "$1" "$2" ;;
    esac
}

server_pid=''
start_server() {
    local options=(--shared-dir / --cache always --sandbox chroot)
    case $server in */qemu/*) options=(-o source=/ -o cache=always -o sandbox=chroot -o no_posix_lock) ;; esac
    "$server" --socket-path="$work/socket" "${options[@]}" </dev/null >"$work/server.log" 2>&1 &
    server_pid=$!
    for _ in $(seq 100); do
        if [ -S "$work/socket" ]; then return; fi
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    die "virtiofsd does not start: $(tail -n 3 "$work/server.log")"
}

stop_server() { if [ -n "$server_pid" ]; then kill "$server_pid" 2>/dev/null || true; fi; }

# Three serial lines: what the command prints, what the kernel says, and the command's exit status.
boot() {
    local status machine=(-machine q35 -accel "tcg,thread=multi" -smp 2 -m 1024 -nodefaults -no-user-config -display none -no-reboot)
    start_server
    # Without cx16: qemu 7.2 emulates that instruction in a way that makes newer kernels panic.
    machine+=(-cpu "max,-cx16" -object "memory-backend-memfd,id=memory,size=1024M,share=on" -numa "node,memdev=memory")
    machine+=(-chardev "socket,id=host,path=$work/socket" -device "vhost-user-fs-pci,chardev=host,tag=host")
    machine+=(-serial stdio -serial "file:$work/console" -serial "file:$work/status")
    machine+=(-kernel "$kernel/boot/vmlinuz-$release" -initrd "$work/initrd.gz" -append "console=ttyS1 quiet panic=-1 mitigations=off")
    timeout --foreground "$seconds" qemu-system-x86_64 "${machine[@]}" </dev/null 2>"$work/qemu.log" || status=$?
    [ "${status:-0}" -ne 124 ] || die "the command did not finish within $seconds seconds on Linux $release"
    status=$(tr -dc 0-9 <"$work/status" 2>/dev/null) || true
    [ -n "$status" ] || die "Linux $release did not finish: $(tail -n 5 "$work/qemu.log" "$work/console" 2>/dev/null)"
    exit "$status"
}

main "$@"
