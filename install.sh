#!/bin/sh
# install.sh - builds podwire's plugins and tools, statically linked, and installs them
#
#   install.sh [--bin-dir DIR] [--tools-dir DIR] [--from DIR] [--force] [--uninstall] [--help]
#
#   --bin-dir DIR     where the plugins go (default /opt/cni/bin); the runtimes of this machine that look
#                     elsewhere are named, each with the directory to give here
#   --tools-dir DIR   where the commands go: cnitool, cni-conformance, cni-bench (default /usr/local/bin)
#   --from DIR        install the programs in DIR, which were built before, instead of building them: needs no
#                     Rust. All plugins have to be there; commands that are not are left out
#   --force           also replace a program of the same name from another project;
#                     it is kept as NAME.before-podwire
#   --uninstall       remove what this script installed, put back what it had replaced, and name what stays on
#                     the node (bridges, routes, addresses …) with the commands that remove it
#
# Each file is put in place by a rename, so a running kubelet or containerd never meets half a
# program. Without --force nothing at all is installed where another project's program is in the
# way. Running it again upgrades; running it again after an interruption finishes the job.
# CARGO_TARGET_DIR and RUSTFLAGS are honoured. Under sudo the build runs as the caller.

set -eu
umask 022
trap 'exit 130' INT TERM HUP

# How it works: a program that this script installed ends with a line `podwire NAME VERSION` after the ELF image
# (loaders do not look there). That line alone says whether a file is ours: nothing foreign is executed to find out,
# and there is no list of installed files that could be lost. What was replaced is copied to its .before-podwire
# name before the rename, so whatever is interrupted, no file is ever missing or lost.

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=.ci/build.sh
. "$root/.ci/build.sh"
# shellcheck source=.ci/runtimes.sh
. "$root/.ci/runtimes.sh"

main() {
    read_arguments "$@"
    for dir in "$bin_dir" "$tools_dir"; do make_directory "$dir"; done
    if [ "$action" = uninstall ]; then
        uninstall
    else
        tell_where_runtimes_look
        if [ -n "$from" ]; then take_what_was_built; else build; fi
        install_all
        tell_who_looks_elsewhere
        tell_of_other_pods
    fi
}

read_arguments() {
    bin_dir=/opt/cni/bin tools_dir=/usr/local/bin from='' force=no action=install
    while [ $# -gt 0 ]; do
        case $1 in
            --bin-dir) [ -n "${2-}" ] || die "--bin-dir needs a directory"
                bin_dir=$2 && shift ;;
            --bin-dir=?*) bin_dir=${1#*=} ;;
            --tools-dir) [ -n "${2-}" ] || die "--tools-dir needs a directory"
                tools_dir=$2 && shift ;;
            --tools-dir=?*) tools_dir=${1#*=} ;;
            --from) [ -n "${2-}" ] || die "--from needs a directory"
                from=$2 && shift ;;
            --from=?*) from=${1#*=} ;;
            --force) force=yes ;;
            --uninstall) action=uninstall ;;
            --help | -h) head_of_file "$0" && exit ;;
            *) die "unknown argument $1; see $0 --help" ;;
        esac
        shift
    done
    bin_dir=$(absolute "$bin_dir") tools_dir=$(absolute "$tools_dir")
    if [ -n "$from" ]; then from=$(absolute "$from"); fi
    [ "$bin_dir" != "$tools_dir" ] || say "plugins and tools both go to $bin_dir"
}

absolute() {
    case $1 in
        / | /*[!/]) printf '%s\n' "$1" ;;
        /*) absolute "${1%/}" ;;
        *) absolute "$PWD/$1" ;;
    esac
}

# Before the build: who may not write should not have to wait for it.
make_directory() {
    if [ "$action" = uninstall ]; then
        [ -d "$1" ] || return 0
    else
        mkdir -p "$1" 2>/dev/null || die "can't make $1; run this with sudo, or choose other directories: $0 --help"
    fi
    [ -w "$1" ] || die "can't write to $1; run this with sudo, or choose other directories: $0 --help"
}

# --- build --------------------------------------------------------------------------------------------------------

build() {
    find_rust
    need_linker -static
    find_triple
    step "Building $(plugins | tr '\n' ' ')and $(tools | tr '\n' ' ')for $triple (release, static)"
    # Apart, so that what only tools depend on never reaches a plugin.
    # shellcheck disable=SC2046 # names without spaces
    build_static $(plugins)
    # shellcheck disable=SC2046
    build_static $(tools)
    built=$target_dir/$triple/release
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    installed_tools=$(tools)
}

# --from: the same without a build.
take_what_was_built() {
    built=$from missing='' installed_tools=''
    [ -d "$from" ] || die "--from $from: there is no such directory"
    for name in $(plugins); do [ -f "$from/$name" ] || missing="$missing $name"; done
    [ -z "$missing" ] || die "--from $from: these plugins are not there:$missing
Nothing was installed. All of them have to be in one directory, as a build leaves them in target/…/release."
    for name in $(tools); do
        if [ -f "$from/$name" ]; then installed_tools="$installed_tools $name"; else say "$name is not in $from: left out"; fi
    done
    version=$("$from/bridge" --version 2>/dev/null) ||
        die "--from $from: bridge does not run on this machine; is it for another processor, or a part of a file?"
    version=${version#bridge }
}

# --- install ------------------------------------------------------------------------------------------------------

install_all() {
    lock_directories
    refuse_what_is_not_ours
    step "Installing podwire $version"
    for name in $(plugins); do install_one "$name" "$bin_dir"; done
    for name in $installed_tools; do install_one "$name" "$tools_dir"; done
    say "Next: copy a file of $root/examples/conflists to /etc/cni/net.d,"
    say "or try it by hand: sudo $root/examples/demo.sh"
}

# All of them are looked at before the first is touched.
refuse_what_is_not_ours() {
    foreign=''
    for name in $(plugins); do look_at "$bin_dir/$name"; done
    for name in $installed_tools; do look_at "$tools_dir/$name"; done
    if [ -n "$foreign" ] && [ "$force" = no ]; then
        die "not podwire's:$foreign
Nothing was installed. With --force each is kept as NAME.before-podwire, and --uninstall puts it back."
    fi
}

look_at() {
    [ ! -d "$1" ] || die "$1 is a directory; nothing was installed"
    if exists "$1" && ! is_ours "$1"; then foreign="$foreign $1"; fi
}

# install_one NAME DIRECTORY
install_one() {
    file=$2/$1 how=''
    if is_ours "$file"; then
        how=" (was podwire $(version_of "$file"))"
    elif exists "$file"; then
        keep_aside "$file"
        how=" (the old one is kept as $1.before-podwire)"
    fi
    fresh=$2/.$1.podwire-new
    trap 'rm -f "$fresh"' EXIT
    rm -f "$fresh"
    cp "$built/$1" "$fresh"
    # What was installed somewhere before has its line already.
    [ -n "$(version_of "$fresh")" ] || printf '\npodwire %s %s\n' "$1" "$version" >>"$fresh"
    chmod 0755 "$fresh"
    sync "$fresh" 2>/dev/null || sync
    mv -fT "$fresh" "$file"
    say "$file$how"
}

# Copies FILE, which is not ours, to its .before-podwire name. One that is kept there already, and differs, moves on
# to a number: nothing is ever overwritten.
keep_aside() {
    kept=$1.before-podwire
    if same "$1" "$kept"; then return; fi
    if exists "$kept"; then
        number=1
        while exists "$kept.$number"; do number=$((number + 1)); done
        mv -T "$kept" "$kept.$number"
        say "$kept was there already: now $kept.$number"
    fi
    fresh=$(dirname "$1")/.$(basename "$1").podwire-kept
    trap 'rm -f "$fresh"' EXIT
    rm -f "$fresh"
    cp -a "$1" "$fresh"
    mv -T "$fresh" "$kept"
}

# --- uninstall ----------------------------------------------------------------------------------------------------

# By what lies there, not by a list: also what an older podwire installed.
uninstall() {
    lock_directories
    for dir in "$bin_dir" "$tools_dir"; do
        [ -d "$dir" ] || continue
        step "Uninstalling from $dir"
        count=0
        rm -f "$dir"/.*.podwire-new "$dir"/.*.podwire-kept
        for file in "$dir"/*; do
            if is_ours "$file"; then take_away "$file"; fi
        done
        for kept in "$dir"/*.before-podwire; do
            if exists "$kept"; then return_kept "$kept" "${kept%.before-podwire}"; fi
        done
        [ "$count" -ne 0 ] || say "nothing of podwire's there"
        for kept in "$dir"/*.before-podwire.[0-9]*; do
            if exists "$kept"; then say "$kept stays: an older file that --force had replaced"; fi
        done
    done
    say "Configurations (/etc/cni/net.d) and kernel settings (net.ipv4.ip_forward and others) were not touched."
    tell_who_has_ours
    tell_what_is_held
    tell_what_stays
}

# Pods that our plugins made go on without them: their wires carry our alias.
tell_what_is_held() {
    held=$(ip link show 2>/dev/null | sed -n 's/^ *alias podwire [0-9a-f]* \(.* \)\{0,1\}/      /p')
    [ -n "$held" ] || return 0
    step "Pods that podwire wired still run (network/container/interface)"
    printf '%s\n' "$held"
    say "They keep their network. A runtime removes them with the plugin of the same name that lies in $bin_dir now."
    say "The reference bridge takes interface and addresses away; with ipMasq its DEL then fails once, because it never"
    say "made an iptables chain for them: the second DEL succeeds, and a kubelet calls it. Where there is no plugin of"
    say "that name any more (routed-veth, vxlan-overlay), such a Pod can only be removed with podwire installed again."
}

tell_what_stays() {
    stays=$(what_pods_share)
    if [ -n "$stays" ]; then
        step "What podwire made for all Pods of this node is still there"
        say "When none of them runs any more, this removes it:"
        printf '%s\n' "$stays"
    fi
    command -v nft >/dev/null ||
        say "nft is not installed: whether the tables \"inet podwire\" and \"bridge podwire\" are there can't be seen."
}

# The commands that remove what is there, from what stands on other things to what these stand on.
what_pods_share() {
    for family in inet bridge; do
        if nft list table $family podwire >/dev/null 2>&1; then say "  nft delete table $family podwire"; fi
    done
    for ip in 'ip -4' 'ip -6'; do
        if [ -n "$($ip route show table all proto 112 2>/dev/null)" ]; then
            say "  $ip route flush table all proto 112"
        fi
    done
    ip -o link show type vxlan 2>/dev/null |
        sed -n 's/^[0-9]*: \([^:@]*\).*alias podwire-network .*/      ip link del \1/p'
    for bridge in $(bridges_of_pods); do
        say "  ip link del $bridge    # a bridge of Pods; not if it was there before podwire"
    done
    if [ -d /run/podwire ]; then say "  rm -r /run/podwire    # what plugins remember until the next boot"; fi
    # The index is ours; the reservations beside it may be the reference's too.
    for store in /var/lib/cni/networks/* $(values_in_configurations dataDir | sed 's,$,/*,'); do
        if [ -e "$store/index.podwire" ]; then say "  rm -r $store    # reserved addresses"; fi
    done
    set -- /var/lib/cni/results/*-cnitool-*
    if [ -e "$1" ]; then say "  rm /var/lib/cni/results/*-cnitool-*    # what cnitool remembers of attachments"; fi
    for unit in /etc/systemd/system/podwire*; do
        if [ -e "$unit" ]; then say "  systemctl disable --now ${unit##*/}; rm -r $unit"; fi
    done
    # As examples/systemd says to name them.
    for hook in /etc/NetworkManager/dispatcher.d/90-podwire /etc/NetworkManager/conf.d/50-podwire.conf \
        /etc/systemd/networkd.conf.d/50-podwire.conf /etc/networkd-dispatcher/*.d/50-podwire; do
        if [ -e "$hook" ]; then say "  rm $hook"; fi
    done
}

# The bridges that configurations name, that have ports of ours, and the default one; those that exist, and have no port of
# anything but Pods (a bridge of virtual machines, or one that the node itself is reached by, is not ours to remove).
bridges_of_pods() {
    {
        echo cni0
        values_in_configurations bridge
        ip -o link show type veth 2>/dev/null | sed -n 's/.* master \([^ ]*\) .*alias podwire .*/\1/p'
    } | sort -u | while read -r bridge; do
        ip -o link show type bridge dev "$bridge" 2>/dev/null | grep -q . || continue
        ip -o link show master "$bridge" 2>/dev/null | grep -qv '^[0-9]*: veth' || printf '%s\n' "$bridge"
    done
}

# Says so where a subnet that is configured is on a bridge with Pods of another program: of the network before.
tell_of_other_pods() {
    for subnet in $(values_in_configurations subnet); do
        case $subnet in *:*) ip='ip -6' ;; *) ip='ip -4' ;; esac
        for link in $({ $ip route get "${subnet%/*}"; $ip route show root "$subnet"; } 2>/dev/null |
            grep -o 'dev [^ ]*' | cut -d ' ' -f 2 | sort -u); do
            ip -o link show type bridge dev "$link" 2>/dev/null | grep -q . || continue
            ports=$(ip -o link show master "$link" type veth 2>/dev/null | grep -vc 'alias podwire ') || continue
            say "note: subnet $subnet is on bridge $link, which has ports that podwire did not make ($ports). If they are Pods of the"
            say "    network before, keep that network's name in the list: reservations are kept by it. Or drain the node first."
        done
    done
}

# The values of a key that is a string, in all network configurations.
values_in_configurations() {
    cat /etc/cni/net.d/* 2>/dev/null | grep -o "\"$1\"[[:space:]]*:[[:space:]]*\"[^\"]*\"" |
        sed 's/^.*"\([^"]*\)"$/\1/' | sort -u
}

# One rename where there is something to put back, so that the file is never missing.
take_away() {
    count=$((count + 1))
    kept=$1.before-podwire
    if exists "$kept" && ! is_ours "$kept"; then
        mv -fT "$kept" "$1"
        say "removed $1, and put back what was there before"
    else
        rm -f "$1"
        say "removed $1"
    fi
}

# return_kept KEPT FILE: ours is gone from FILE already.
return_kept() {
    count=$((count + 1))
    if ! exists "$2"; then
        mv -T "$1" "$2"
        say "put back $2"
    elif same "$1" "$2"; then
        rm -f "$1"
        say "removed $1: $2 is the same"
    else
        say "$1 stays: $2 has been replaced since by something else"
    fi
}

# --- files --------------------------------------------------------------------------------------------------------

exists() { [ -e "$1" ] || [ -L "$1" ]; }

# Did this script install FILE? A symbolic link it never makes.
is_ours() { [ -f "$1" ] && [ ! -L "$1" ] && [ -n "$(version_of "$1")" ]; }

# The version in FILE's last line, nothing if it has no such line.
version_of() { tail -c 200 "$1" | tr -d '\000' | LC_ALL=C sed -n '$s/^podwire [a-z0-9-]* \([0-9][^ ]*\)$/\1/p'; }

same() {
    if [ -L "$1" ] || [ -L "$2" ]; then
        [ -L "$1" ] && [ -L "$2" ] && [ "$(readlink "$1")" = "$(readlink "$2")" ]
    else
        [ -f "$1" ] && [ -f "$2" ] && cmp -s "$1" "$2"
    fi
}

real() { (cd "$1" 2>/dev/null && pwd -P); }

# Two of this script at once take turns.
lock_directories() {
    need flock util-linux
    if [ -d "$bin_dir" ]; then
        exec 8<"$bin_dir"
        flock -w 60 8 || die "another install.sh holds $bin_dir"
    fi
    if [ -d "$tools_dir" ] && [ "$(real "$tools_dir")" != "$(real "$bin_dir")" ]; then
        exec 9<"$tools_dir"
        flock -w 60 9 || die "another install.sh holds $tools_dir"
    fi
}

main "$@"
