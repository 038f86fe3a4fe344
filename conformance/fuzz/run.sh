#!/bin/bash
# conformance/fuzz/run.sh - fuzzes everything that decodes, coverage-guided
#
#   conformance/fuzz/run.sh [--seconds N] [--seed N] [--asan] [TARGET...]
#
#   conformance/fuzz/run.sh                       every target, 5 minutes each
#   conformance/fuzz/run.sh --seconds 2 --seed 1  the short run, as in .ci/run
#   conformance/fuzz/run.sh --seconds 3600 store  one target for an hour
#   conformance/fuzz/run.sh --list                the targets, and what each decodes
#
# No root. What is found grows below the target directory and is used again; the seeds in the repository stay as they
# are. An input that makes a target fail is kept, and named together with the command that runs it again.
# Any compiler that builds podwire will do, and a C++ compiler (libFuzzer is C++). With --asan, AddressSanitizer watches
# too: that needs a nightly compiler, or this one taken for one (RUSTC_BOOTSTRAP=1, which --asan sets).
# libFuzzer's random choices start from a number. Without --seed it is drawn, and the first line says which it is.
# `cargo fuzz run -s none TARGET seeds/TARGET` does the same, for those who have cargo-fuzz. Ends with a table.

set -euo pipefail

root=$(cd -- "$(dirname -- "$0")/../.." && pwd)
here=$root/conformance/fuzz
# shellcheck source=.ci/build.sh
. "$root/.ci/build.sh"

seconds=300 seed='' asan=''
targets=()

main() {
    read_arguments "$@"
    find_rust
    need_compiler
    build
    step "Fuzzing, $seconds s for each of ${#targets[@]} targets, with --seed $seed"
    failures=0
    printf '    %-14s %14s %10s %9s  %s\n' target inputs 'a second' covered ''
    for target in "${targets[@]}"; do
        fuzz "$target"
    done
    printf '    %-14s %14d\n' total "$total"
    [ "$failures" -eq 0 ] || die "$failures of ${#targets[@]} targets failed"
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --help | -h) head_of_file "$0" && exit ;;
            --list) list && exit ;;
            --seconds) seconds=${2:?--seconds takes a number} && shift ;;
            --seed) seed=${2:?--seed takes a number} && shift ;;
            --asan) asan=1 ;;
            -*) die "unknown option $1 (see --help)" ;;
            *)
                [ -e "$here/fuzz_targets/$1.rs" ] || die "no target $1 (see --list)"
                targets+=("$1")
                ;;
        esac
        shift
    done
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "--seconds $seconds: not a number from 1"
    [ -n "$seed" ] || seed=$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')
    [[ $seed =~ ^[0-9]+$ ]] || die "--seed $seed: not a number"
    [ ${#targets[@]} -ne 0 ] || mapfile -t targets < <(all_targets)
}

all_targets() { (cd "$here/fuzz_targets" && for file in *.rs; do echo "${file%.rs}"; done); }

list() {
    for target in $(all_targets); do
        printf '%-14s %s\n' "$target" "$(sed -n '1s/^\/\/! //p' "$here/fuzz_targets/$target.rs")"
    done
}

need_compiler() {
    command -v c++ >/dev/null || command -v clang++ >/dev/null ||
        die "no C++ compiler, which libFuzzer needs; install one: $(install_command g++ gcc-c++ g++ gcc gcc-c++)"
}

# --- building -----------------------------------------------------------------------------------------------------

# The flags are those of `cargo fuzz build`: counters on every edge, and what is compared with what.
build() {
    step "Building the fuzzers"
    host=$(as_builder rustc -vV | sed -n 's/^host: //p')
    work=$target_dir/fuzz
    local flags=(-Cpasses=sancov-module --cfg fuzzing)
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$option")
    done
    if [ -n "$asan" ]; then
        flags+=(-Zsanitizer=address)
        work=$target_dir/fuzz-asan
        export RUSTC_BOOTSTRAP=1
    fi
    # With --target the flags are not for build scripts and procedural macros.
    as_builder env RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR="$work" \
        cargo build --manifest-path "$here/Cargo.toml" --release --bins --target "$host"
    binaries=$work/$host/release
}

# --- running ------------------------------------------------------------------------------------------------------

# One line of the table. libFuzzer's own words go to a file.
total=0
fuzz() {
    local target=$1 place=$work/run/$1 log status=0
    as_builder mkdir -p "$place/corpus" "$place/failures"
    log=$place/log
    [ ! -t 1 ] || printf '    %-14s running …\r' "$target"
    # Files that a target writes are in memory where that can be, and go with the run.
    scratch=$(as_builder mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" podwire-fuzz-XXXXXX)
    trap 'rm -rf "$scratch"' EXIT
    run_target "$target" -max_total_time="$seconds" -seed="$seed" -artifact_prefix="$place/failures/" "$place/corpus" \
        "$here/seeds/$target" >"$log" 2>&1 || status=$?
    rm -rf "$scratch"
    local count rate covered
    count=$(number_of number_of_executed_units) rate=$(number_of average_exec_per_sec)
    covered=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2 || true)
    total=$((total + ${count:-0}))
    printf '    %-14s %14d %10d %9d  %s\n' "$target" "${count:-0}" "${rate:-0}" "${covered:-0}" \
        "$([ "$status" -eq 0 ] && echo "${green}ok$plain" || echo "${red}FAILED$plain")"
    [ "$status" -eq 0 ] || told_why "$target"
}

# A run that takes 10 s is a hang; one that takes 1 GiB is a leak.
run_target() {
    local target=$1 dictionary=()
    shift
    case $target in
        configuration | list | result | node_map | cache) dictionary=(-dict="$here/dictionaries/json") ;;
        environment | texts) dictionary=(-dict="$here/dictionaries/$target") ;;
    esac
    as_builder env TMPDIR="$scratch" "$binaries/$target" -timeout=10 -rss_limit_mb=1024 -max_len=8192 -print_final_stats=1 \
        "${dictionary[@]}" "$@"
}

number_of() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }

told_why() {
    failures=$((failures + 1))
    grep -a -A 3 -e 'panicked at' -e '^==[0-9]*==' "$log" | head -n 12 | sed 's/^/        /' || true
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    say "    $log has more; again: $binaries/$1 ${input:-$here/seeds/$1}"
}

main "$@"
