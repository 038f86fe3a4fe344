#!/bin/bash
# conformance/test.sh - installs what the tests need, builds podwire, and runs every test
#
#   sudo conformance/test.sh [ARGUMENTS OF cargo test]
#
#   sudo conformance/test.sh                      every test
#   sudo conformance/test.sh masquerade           the tests with that word in their names
#   sudo conformance/test.sh -p cni-conformance --test bridge
#   sudo conformance/test.sh --quick              what finds most mistakes, in less than three minutes once it is built
#   sudo conformance/test.sh --packages           only install what the tests need
#
# --quick leaves out the suite over every plugin and every fault, crash testing, and the tests with containerd, podman, Go, valgrind
# and the previous release; it needs none of these. Random choices start from the number 1, so that unchanged code gives
# the same result tomorrow: PODWIRE_SEED=N starts from another, PODWIRE_SEED=random from one that is drawn and printed.
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
    python3:python3-minimal
    /usr/lib/cni/bridge:containernetworking-plugins
    iptables:iptables
    tcpdump:tcpdump
    awk:mawk
    tar:tar
    cc:gcc
    /usr/include/errno.h:libc6-dev
)

# What only tests execute that --quick leaves out.
needs_of_long=(
    valgrind:valgrind
    containerd:containerd
    ctr:containerd
    runc:runc
    podman:podman
    iperf3:iperf3
)

# The test programs of conformance/tests that --quick leaves out, with all of conformance/clients. What they take is in
# docs/src/dev/tests.md.
long=(all_at_once bench budget conformance_ours conformance_theirs crash install many_addresses map_cost previous_release suite_self)

# What single tests execute, which are skipped where it can't be had.
wants=(
    jq:jq
    systemd-analyze:systemd
    go:golang-go
    /usr/share/gocode/src/github.com/containernetworking/cni/libcni:golang-github-appc-cni-dev
)

main() {
    case ${1:-} in --help | -h) head_of_file "$0" && exit ;; esac
    quick=''
    if [ "${1:-}" = --quick ]; then quick=yes && shift; fi
    choose_seed
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
    [ -n "$quick" ] || needs+=("${needs_of_long[@]}")
    find_missing "${needs[@]}"
    install_missing || die "missing: ${missing[*]} (Debian's names of the packages); install them"
    [ -z "$quick" ] || return 0
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

# --- random choices -----------------------------------------------------------------------------------------------

# For crash testing (PODWIRE_SEED) and for proptest, whose name for it is another.
choose_seed() {
    if [ "${PODWIRE_SEED:=1}" = random ]; then
        PODWIRE_SEED=$RANDOM
        say "random choices start from a drawn number; again: PODWIRE_SEED=$PODWIRE_SEED $0"
    fi
    [[ $PODWIRE_SEED =~ ^[0-9]+$ ]] || die "PODWIRE_SEED=$PODWIRE_SEED: neither a number nor \"random\""
    export PODWIRE_SEED PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-$PODWIRE_SEED}
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
    if [ -n "$quick" ]; then
        mapfile -t chosen < <(quick_tests)
        "${cargo[@]}" --lib --bins "${chosen[@]/#/--test=}" "$@" 2>&1 | tee "$log" || status=$?
    elif [ $# -eq 0 ]; then
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

# The names of the test programs, without the long ones.
quick_tests() {
    local path name
    for path in {libcni,ipam/*,plugins/*,conformance}/tests/{*.rs,*/main.rs}; do
        [ -e "$path" ] || continue
        name=${path%/main.rs} name=${name##*/} name=${name%.rs}
        [[ " ${long[*]} " = *" $name "* ]] || echo "$name"
    done | sort -u
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
