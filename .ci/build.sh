# shellcheck shell=sh
# How the scripts speak, and how they find Rust and build. Sourced by install.sh, examples/lib.sh, conformance/test.sh,
# .ci/run and .ci/reproducible, which set `root` (the checkout) first. POSIX sh.
#
# Under sudo the build runs as the person who called sudo, with that person's toolchain: nothing in target/ or in
# ~/.cargo becomes root's. Where that person may not write to the target directory, root builds, with root's own
# registry and still that person's toolchain.

# shellcheck disable=SC2034 # not every script uses every word

# --- words --------------------------------------------------------------------------------------------------------

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') dim=$(printf '\033[2m') red=$(printf '\033[31m') green=$(printf '\033[32m')
    blue=$(printf '\033[34m') plain=$(printf '\033[0m')
else
    bold='' dim='' red='' green='' blue='' plain=''
fi

step() { printf '%s==>%s %s%s%s\n' "$blue" "$plain" "$bold" "$*" "$plain"; }
say() { printf '    %s\n' "$*"; }
die() {
    printf '%s%s: %s%s\n' "$red" "${0##*/}" "$*" "$plain" >&2
    exit 1
}

# The text after the shebang, up to the first line that is no comment: what --help prints.
head_of_file() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"; }

# --- what is missing, and the command that installs it ------------------------------------------------------------

# install_command DEBIAN FEDORA ALPINE ARCH SUSE: the one line for this distribution.
install_command() {
    if command -v apt-get >/dev/null; then echo "apt-get install -y $1"
    elif command -v dnf >/dev/null; then echo "dnf install -y $2"
    elif command -v apk >/dev/null; then echo "apk add $3"
    elif command -v pacman >/dev/null; then echo "pacman -S $4"
    elif command -v zypper >/dev/null; then echo "zypper install -y $5"
    else echo "your package manager, for: $1"
    fi
}

# need COMMAND PACKAGE: the package has the same name everywhere.
need() {
    command -v "$1" >/dev/null || die "$1 is missing; install it: $(install_command "$2" "$2" "$2" "$2" "$2")"
}

# --- Rust ---------------------------------------------------------------------------------------------------------

rustup_command="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"

# Finds cargo and decides who builds. Sets build_user (empty: whoever runs this) and target_dir.
find_rust() {
    build_user='' build_home=''
    case ${CARGO_TARGET_DIR:-/} in
        /*) ;;
        *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; # it is relative to where the script was called, not to root
    esac
    [ "$(id -u)" -ne 0 ] || find_rust_of_caller
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/local/cargo/bin
    export PATH
    command -v cargo >/dev/null || die "cargo is missing; install Rust: $rustup_command"
    check_rust_version
    target_dir=$(cargo_in_root metadata --no-deps --format-version 1 --locked --offline |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    [ -n "$target_dir" ] || die "cargo metadata names no target directory"
}

# Root, called through sudo by somebody: their toolchain, and if possible their name.
find_rust_of_caller() {
    [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] || return 0
    caller_home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    [ -d "$caller_home" ] || return 0
    if [ -d "${RUSTUP_HOME:-$caller_home/.rustup}" ]; then
        RUSTUP_HOME=${RUSTUP_HOME:-$caller_home/.rustup}
        export RUSTUP_HOME
    fi
    PATH=${CARGO_HOME:-$caller_home/.cargo}/bin:$PATH
    command -v runuser >/dev/null || return 0
    written_to=${CARGO_TARGET_DIR:-$root/target}
    while [ ! -e "$written_to" ]; do written_to=$(dirname "$written_to"); done
    if runuser -u "$SUDO_USER" -- test -w "$written_to" &&
        (cd "$root" && runuser -u "$SUDO_USER" -- cargo --version >/dev/null 2>&1); then
        build_user=$SUDO_USER build_home=$caller_home
    fi
}

check_rust_version() {
    version=$(as_builder rustc --version | cut -d' ' -f2) || die "rustc does not run; install Rust: $rustup_command"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    oldest=$(printf '%s\n%s\n' "$version" "$wanted" | sort -t. -k1,1n -k2,2n | head -n 1)
    if [ "$oldest" != "$wanted" ]; then
        case $(command -v rustc) in
            */.cargo/bin/rustc | /usr/local/cargo/bin/rustc) advice='rustup update' ;;
            *) advice=$rustup_command ;;
        esac
        die "rustc $version is too old, podwire needs $wanted or newer; get it: $advice"
    fi
}

# Runs a command in the checkout as the one who builds.
as_builder() (
    cd "$root" || exit
    if [ -n "$build_user" ]; then
        exec runuser -u "$build_user" -- env HOME="$build_home" USER="$build_user" LOGNAME="$build_user" "$@"
    fi
    exec "$@"
)

cargo_in_root() { as_builder cargo "$@"; }

# The linker Rust calls. need_linker -static: libc.a too.
need_linker() {
    probe=$(mktemp -d) || exit
    if ! echo 'int main(void) { return 0; }' | cc "$@" -x c - -o "$probe/a" >"$probe/log" 2>&1; then
        sed 's/^/    /' "$probe/log" >&2
        rm -rf "$probe"
        fedora=gcc suse=gcc
        if [ -n "$*" ]; then fedora='gcc glibc-static' suse='gcc glibc-devel-static'; fi
        die "no working C linker (cc${*:+ $*}); install one: $(
            install_command 'gcc libc6-dev' "$fedora" 'gcc musl-dev' gcc "$suse")"
    fi
    rm -rf "$probe"
}

# --- which commit -------------------------------------------------------------------------------------------------

# The commit of the checkout: commit (for --version), commit_time (in seconds) and commit_tag; all empty where nothing says it. A
# clone asks git, and `git archive` has filled in .ci/commit. PODWIRE_COMMIT and SOURCE_DATE_EPOCH win where they are set.
find_commit() {
    said=$(cat "$root/.ci/commit") commit='' commit_time='' commit_tag='' modified=''
    if [ -e "$root/.git" ]; then
        said=$(as_builder git -c safe.directory="*" log -1 --format='%H %ct %D' 2>/dev/null) || said=''
        [ -z "$(as_builder git -c safe.directory="*" status --porcelain --untracked-files=no 2>/dev/null)" ] || modified=-modified
    fi
    case $said in
        [0-9a-f]*)
            commit=$(printf '%.12s' "$said")$modified
            commit_time=$(printf '%s' "$said" | cut -d' ' -f2)
            [ -n "$modified" ] || commit_tag=$(printf '%s' "$said" | sed -n 's/.*tag: \(v[0-9][^,]*\).*/\1/p') ;;
    esac
    commit=${PODWIRE_COMMIT:-$commit} commit_time=${SOURCE_DATE_EPOCH:-$commit_time}
}

# --- the static build ---------------------------------------------------------------------------------------------

# --target, though it is the host's: with it the flags reach the programs alone, not the build scripts and procedural
# macros that run during the build, which can't be static.
find_triple() { triple=$(as_builder rustc -vV | sed -n 's/^host: //p'); }

# Words for the linker, where the C library that is linked in can relocate a program packed in that way (glibc 2.36): a kilobyte instead
# of eighty, and fewer pages to touch at each start.
packed_relocations() {
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=''
    case $libc in
        "glibc 2."[4-9][0-9] | "glibc 2.3"[6-9] | "glibc 2."[4-9][0-9].* | "glibc 2.3"[6-9].*)
            echo link-arg=-Wl,-z,pack-relative-relocs ;;
    esac
}

# build_static NAME...: adds to the user's own flags, wherever those come from: of the three places that cargo knows,
# the first that is set hides the others. Where the checkout and the sources of crates lie is not told to the programs,
# so that they are the same wherever they were built (.ci/reproducible). libcni/build.rs reads PODWIRE_COMMIT.
build_static() {
    options=''
    for name in "$@"; do options="$options --bin $name"; done
    crates=${CARGO_HOME:-${build_home:-$HOME}/.cargo}
    find_commit
    export PODWIRE_COMMIT="$commit"
    packed=$(packed_relocations)
    # shellcheck disable=SC2086 # options are words
    set -- build --release --locked --target "$triple" $options
    if [ -n "${CARGO_ENCODED_RUSTFLAGS:-}" ]; then
        set -- env CARGO_ENCODED_RUSTFLAGS="$CARGO_ENCODED_RUSTFLAGS$(printf '\037%s' -C target-feature=+crt-static ${packed:+-C "$packed"} \
            "--remap-path-prefix=$crates=/cargo" "--remap-path-prefix=$root=/podwire")" cargo "$@"
    elif [ -n "${RUSTFLAGS:-}" ]; then
        # Flags in one string are split at spaces: a path that has one can't be among them.
        case $crates$root in
            *' '*) renamed='' ;;
            *) renamed=" --remap-path-prefix=$crates=/cargo --remap-path-prefix=$root=/podwire" ;;
        esac
        set -- env RUSTFLAGS="$RUSTFLAGS -C target-feature=+crt-static${packed:+ -C $packed}$renamed" cargo "$@"
    else
        set -- cargo --config "target.$triple.rustflags=['-C', 'target-feature=+crt-static', ${packed:+'-C', '$packed', }\
'--remap-path-prefix=$crates=/cargo', '--remap-path-prefix=$root=/podwire']" "$@"
    fi
    as_builder "$@" || die "the build failed"
}

# --- what is built ------------------------------------------------------------------------------------------------

# Every package with a main of its own below these two folders is a plugin, and named like its folder.
plugins() {
    (cd "$root" && for main in plugins/*/src/main.rs ipam/*/src/main.rs; do
        if [ -e "$main" ]; then basename "${main%/src/main.rs}"; fi
    done)
}

# The commands people run. A new one is added here.
tools() { printf '%s\n' cnitool cni-conformance cni-bench cni-bench-empty; }
