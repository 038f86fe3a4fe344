#!/bin/bash
# conformance/test.sh - installs what the tests need, builds podwire, and runs every test
#
#   sudo conformance/test.sh [ARGUMENTS OF cargo test]
#
#   sudo conformance/test.sh                      every test
#   sudo conformance/test.sh masquerade           the tests with that word in their names
#   sudo conformance/test.sh -p conformance --test bridge
#   sudo conformance/test.sh --packages           only install what the tests need
#
# On Debian and Ubuntu missing packages are installed with apt (no service of theirs is started);
# elsewhere they are named. The tests make network namespaces of their own, so they need root; the
# machine's own namespace, /etc, /opt/cni and /var/lib/cni stay as they are. Under sudo the build
# runs as the caller. CARGO_TARGET_DIR is honoured.

set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=.ci/build.sh
. "$root/.ci/build.sh"

# What the tests execute, and the package that has it (Debian's name).
needs=(
    ip:iproute2
    bridge:iproute2
    ping:iputils-ping
    nft:nftables
    sysctl:procps
    unshare:util-linux
    perl:perl
    strace:strace
    valgrind:valgrind
    python3:python3-minimal
    /usr/lib/cni/bridge:containernetworking-plugins
    iptables:iptables
    containerd:containerd
    ctr:containerd
    runc:runc
    podman:podman
    iperf3:iperf3
    tcpdump:tcpdump
    awk:mawk
    tar:tar
    cc:gcc
    /usr/include/errno.h:libc6-dev
)

# What single tests execute, which are skipped where it can't be had.
wants=(
    jq:jq
    systemd-analyze:systemd
    go:golang-go
    /usr/share/gocode/src/github.com/containernetworking/cni/libcni:golang-github-appc-cni-dev
)

main() {
    case ${1:-} in --help | -h) head_of_file "$0" && exit ;; esac
    if [ "$(id -u)" -ne 0 ]; then
        die "the tests make network namespaces, which needs root: sudo $0${*:+ $*}"
    fi
    install_packages
    [ "${1:-}" != --packages ] || exit 0
    find_rust
    need_linker
    remove_leftovers
    step "Building"
    cargo_in_root test --workspace --locked --no-run
    # Every binary, also those that no test target of their own package asks for.
    cargo_in_root build --workspace --locked
    step "Testing"
    run_tests "$@"
}

# --- packages -----------------------------------------------------------------------------------------------------

install_packages() {
    find_missing "${needs[@]}"
    install_missing || die "missing: ${missing[*]} (Debian's names of the packages); install them"
    find_missing "${wants[@]}"
    install_missing || say "without ${missing[*]} (Debian's names of the packages) some tests are skipped"
}

# find_missing PROGRAM:PACKAGE...: the packages, in `missing`.
find_missing() {
    local entry
    missing=()
    for entry; do
        is_there "${entry%%:*}" || missing+=("${entry#*:}")
    done
}

install_missing() {
    local status=0
    [ ${#missing[@]} -ne 0 ] || return 0
    command -v apt-get >/dev/null || return 1
    step "Installing ${missing[*]}"
    forbid_starting_services
    export DEBIAN_FRONTEND=noninteractive
    apt_install "${missing[@]}" || { apt-get update -q && apt_install "${missing[@]}"; } || status=$?
    allow_starting_services
    return "$status"
}

is_there() { [ -e "$1" ] || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

apt_install() { apt-get install -q -y --no-install-recommends "$@"; }

# Debian's own switch for that, left alone where the machine has one already.
policy=/usr/sbin/policy-rc.d
forbid_starting_services() {
    [ ! -e "$policy" ] || return 0
    trap allow_starting_services EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\n# podwire conformance/test.sh, while it installs packages\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
}
allow_starting_services() {
    if grep -qs '^# podwire' "$policy"; then rm -f "$policy"; fi
}

# --- tests --------------------------------------------------------------------------------------------------------

# What a test run that was killed has left: namespaces named pw-<pid>-… of a process that is gone.
remove_leftovers() {
    local path name pid
    for path in /run/netns/pw-*; do
        [ -e "$path" ] || continue
        name=${path##*/} pid=${name#pw-} pid=${pid%%-*}
        if ! [[ $pid =~ ^[0-9]+$ ]] || [ -d "/proc/$pid" ]; then continue; fi
        say "removing $name, left by a test run that was killed"
        ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$name"
    done
}

# The tests run as root, with the toolchain that built them. Documentation's examples first, so that the summary of
# the tests proper comes last; one that fails does not keep the others from running.
run_tests() {
    local cargo=(cargo test --workspace --locked --offline --no-fail-fast) log status=0
    if [ -n "$build_user" ]; then
        export CARGO_HOME=${CARGO_HOME:-$build_home/.cargo}
        # What root's cargo writes in passing goes back to the one who builds.
        trap 'find "$target_dir" "$CARGO_HOME" -user 0 -exec chown -h "$build_user" {} +' EXIT
    fi
    [ -z "${CARGO_TARGET_DIR:-}" ] || export CARGO_TARGET_DIR
    log=$(mktemp)
    cd "$root"
    if [ $# -eq 0 ]; then
        "${cargo[@]}" --doc 2>&1 | tee "$log" || status=$?
        # --show-output: why a test was skipped is told in what it prints.
        "${cargo[@]}" --lib --bins --tests --examples -- --show-output 2>&1 | without_lists | tee -a "$log" || status=$?
    else
        "${cargo[@]}" "$@" 2>&1 | tee "$log" || status=$?
    fi
    total "$log"
    rm -f "$log"
    return "$status"
}

# With --show-output every test that passed is listed once more, by name: that says nothing new.
without_lists() {
    awk '/^successes:$/ { listing = 1; next }
        listing && (/^    [^ ]+( - should panic)?$/ || /^$/) { next }
        { listing = 0; print; fflush() }'
}

# `cargo test` sums up each program by itself; this is the sum of those. A test that says so in its first word was skipped.
total() {
    awk '/^test result: / {
            for (i = 2; i < NF; i++) {
                if ($(i + 1) == "passed;") passed += $i
                if ($(i + 1) == "failed;") failed += $i
                if ($(i + 1) == "ignored;") skipped += $i
            }
        }
        /^skipped: / { passed--; skipped++ }
        END { printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$1"
}

main "$@"
