//! `install.sh`: what it puts where, what it refuses, and that nothing of another project is ever lost.
//!
//! `machine.rs` has what it says of the machine around it. Building is left out (a stand-in for cargo writes the programs):
//! `.ci/run` builds and installs for real.

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A place to install into, and the toolchain that it is installed with.
struct Place {
    files: TempDir,
}

/// What the script is killed at: the n-th call of mv, cp, rm or chmod, before or after it was carried out.
#[derive(Clone, Copy)]
struct Kill {
    at: u32,
    after: bool,
}

impl Place {
    fn new() -> Self {
        let place = Place { files: tempfile::tempdir().unwrap() };
        place.script("toolchain/bin/rustc", "case $1 in --version) echo 'rustc 1.999.0' ;; *) echo 'host: h' ;; esac");
        let target = place.path("target");
        let build = "while [ $# -gt 0 ]; do [ \"$1\" = --bin ] && echo \"program $2\" > $release/$2; shift; done";
        place.script(
            "toolchain/bin/cargo",
            &format!(
                "if [ $1 = metadata ]; then echo '{{\"target_directory\":\"{target}\"}}'; exit; fi\n\
                 release={target}/h/release; mkdir -p $release\n{build}; true",
                target = target.display(),
            ),
        );
        for directory in ["bin", "tools"] {
            std::fs::create_dir(place.path(directory)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut command = Command::new(root.join("install.sh"));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.files.path())
            .env("CARGO_HOME", self.path("toolchain"))
            .args(["--bin-dir", self.path("bin").to_str().unwrap()])
            .args(["--tools-dir", self.path("tools").to_str().unwrap()])
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        words(&output)
    }

    /// Runs the script and kills it on its way. False: it ended before that.
    fn killed(&self, arguments: &[&str], kill: Kill) -> bool {
        let count = self.path("count");
        std::fs::write(&count, "0").unwrap();
        for tool in ["mv", "cp", "rm", "chmod"] {
            let act = format!("/bin/{tool} \"$@\"");
            self.script(
                &format!("deadly/{tool}"),
                &format!(
                    "n=$(($(cat {count}) + 1)); echo $n > {count}\n\
                     if [ $n -eq {at} ]; then {first}; kill -9 $PPID; exit; fi\n{act}",
                    count = count.display(),
                    at = kill.at,
                    first = if kill.after { &act } else { "true" },
                ),
            );
        }
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("deadly").display());
        !self.command(arguments).env("PATH", path).output().unwrap().status.success()
    }

    /// Another project puts its program there.
    fn put(&self, name: &str, content: &str) {
        let path = self.path(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Every file in both directories, with its content (or a link's target).
    fn snapshot(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for directory in ["bin", "tools"] {
            for entry in std::fs::read_dir(self.path(directory)).unwrap() {
                let entry = entry.unwrap();
                let content = match std::fs::read_link(entry.path()) {
                    Ok(target) => format!("-> {}", target.display()),
                    Err(_) => std::fs::read_to_string(entry.path()).unwrap(),
                };
                files.insert(format!("{directory}/{}", entry.file_name().to_str().unwrap()), content);
            }
        }
        files
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn is_ours(content: &str) -> bool {
    content.lines().last().is_some_and(|line| line.starts_with("podwire "))
}

/// The contents that belong to somebody else.
fn theirs(files: &BTreeMap<String, String>) -> BTreeSet<&str> {
    files.values().map(String::as_str).filter(|content| content.starts_with("theirs")).collect()
}

#[test]
fn every_plugin_and_tool_is_installed_again_and_again_and_taken_away() {
    let place = Place::new();
    place.ok(&[]);
    let files = place.snapshot();
    for name in ["bin/bridge", "bin/host-local", "bin/loopback", "tools/cnitool"] {
        assert!(is_ours(&files[name]), "{name}: {:?}", files[name]);
        let mode = std::fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
    }
    place.ok(&[]);
    place.ok(&["--force"]);
    assert_eq!(place.snapshot(), files);
    let said = place.ok(&["--uninstall"]);
    assert_eq!(place.snapshot(), BTreeMap::new());
    for name in files.keys() {
        assert!(said.contains(&format!("removed {}", place.path(name).display())), "{name}: {said}");
    }
    assert!(place.ok(&["--uninstall"]).contains("nothing of podwire's"));
}

#[test]
fn without_force_another_projects_program_stops_the_whole_installation() {
    let place = Place::new();
    place.put("bin/bridge", "theirs");
    place.put("tools/cnitool", "theirs too");
    let before = place.snapshot();
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    for name in ["bin/bridge", "tools/cnitool"] {
        assert!(words(&output).contains(place.path(name).to_str().unwrap()), "{}", words(&output));
    }
    assert_eq!(place.snapshot(), before);
}

#[test]
fn with_force_the_old_program_is_kept_and_comes_back() {
    let place = Place::new();
    place.put("bin/bridge", "theirs");
    symlink("/usr/lib/cni/loopback", place.path("bin/loopback")).unwrap();
    std::fs::set_permissions(place.path("bin/bridge"), PermissionsExt::from_mode(0o750)).unwrap();
    let before = place.snapshot();
    place.ok(&["--force"]);
    assert!(is_ours(&place.read("bin/bridge")) && is_ours(&place.read("bin/loopback")));
    assert_eq!(place.read("bin/bridge.before-podwire"), "theirs");
    place.ok(&["--force"]);
    place.ok(&[]);
    assert_eq!(place.read("bin/bridge.before-podwire"), "theirs", "a kept file is not replaced by ours");
    place.ok(&["--uninstall"]);
    assert_eq!(place.snapshot(), before);
    assert_eq!(std::fs::metadata(place.path("bin/bridge")).unwrap().permissions().mode() & 0o777, 0o750);
    place.ok(&["--uninstall"]);
    assert_eq!(place.snapshot(), before, "a second time changes nothing");
}

#[test]
fn a_kept_program_that_is_ours_is_not_put_back() {
    let place = Place::new();
    place.ok(&[]);
    std::fs::copy(place.path("bin/bridge"), place.path("bin/bridge.before-podwire")).unwrap();
    place.ok(&["--uninstall"]);
    assert_eq!(place.snapshot(), BTreeMap::new());
}

/// 30 steps each of 4 walks through: install, force, uninstall, and another project's package that upgrades,
/// installs or removes its program in between.
#[test]
fn nothing_of_another_project_is_lost_in_any_order() {
    for walk in 1..=4u64 {
        let place = Place::new();
        let mut random = walk.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for count in 0..30 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let name = if random >> 60 & 1 == 0 { "bin/bridge" } else { "tools/cnitool" };
            let before = place.snapshot();
            match (random >> 33) % 6 {
                0 => place.put(name, &format!("theirs {count}")),
                1 => drop(std::fs::remove_file(place.path(name))),
                2 | 3 => step(&place, &["--force"], &before),
                4 => step(&place, &[], &before),
                _ => step(&place, &["--uninstall"], &before),
            }
        }
    }
}

fn step(place: &Place, arguments: &[&str], before: &BTreeMap<String, String>) {
    let done = place.run(arguments).status.success();
    let after = place.snapshot();
    let context = format!("{arguments:?}\nbefore: {before:#?}\nafter: {after:#?}");
    assert!(theirs(&after).is_superset(&theirs(before)), "lost: {context}");
    if !done {
        assert_eq!(arguments, [] as [&str; 0], "only an installation without --force is ever refused: {context}");
        assert_eq!(&after, before, "a refused installation changed something");
    }
    if arguments == ["--uninstall"] {
        assert!(!after.values().any(|content| is_ours(content)), "ours is still there: {context}");
        for name in ["bin/bridge", "tools/cnitool"] {
            let (kept, was) = (before.get(&format!("{name}.before-podwire")), before.get(name));
            if let (Some(kept), true) = (kept, was.is_none_or(|was| is_ours(was))) {
                assert_eq!(&after[name], kept, "not put back: {context}");
            }
        }
    }
    if done {
        place.ok(arguments);
        assert_eq!(place.snapshot(), after, "the same again is not the same: {context}");
    }
}

#[test]
fn killed_anywhere_it_has_lost_nothing_and_the_next_run_finishes() {
    for arguments in [["--force"], ["--uninstall"]] {
        for after in [false, true] {
            let mut points = 0;
            loop {
                let place = Place::new();
                place.put("bin/bridge", "theirs 1");
                if arguments == ["--uninstall"] {
                    place.ok(&["--force"]);
                }
                if !place.killed(&arguments, Kill { at: points + 1, after }) {
                    break;
                }
                points += 1;
                let files = place.snapshot();
                assert!(theirs(&files).contains("theirs 1"), "lost at {points}: {files:#?}");
                assert!(files.contains_key("bin/bridge"), "gone for a moment at {points}: {files:#?}");
                place.ok(&arguments);
                if arguments == ["--force"] {
                    let names: Vec<_> = place.snapshot().into_keys().filter(|name| name.contains('.')).collect();
                    assert_eq!(names, ["bin/bridge.before-podwire"], "killed at {points}");
                    place.ok(&["--uninstall"]);
                }
                let back = BTreeMap::from([("bin/bridge".to_owned(), "theirs 1".to_owned())]);
                assert_eq!(place.snapshot(), back, "killed at {points}");
            }
            assert!(points >= 4, "{arguments:?} was killed at {points} points only");
        }
    }
}

#[test]
fn two_at_once_take_turns() {
    let place = Place::new();
    place.put("bin/bridge", "theirs");
    let runs: Vec<_> = (0..4)
        .map(|_| place.command(&["--force"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    place.ok(&["--uninstall"]);
    assert_eq!(place.snapshot(), BTreeMap::from([("bin/bridge".to_owned(), "theirs".to_owned())]));
}

#[test]
fn what_is_missing_is_named_with_the_command_that_installs_it() {
    let place = Place::new();
    place.script("toolchain/bin/rustc", "echo 'rustc 1.63.0'");
    let said = words(&place.run(&[]));
    assert!(said.contains("rustc 1.63.0 is too old") && said.contains("rustup"), "{said}");

    let place = Place::new();
    place.script("toolchain/bin/cc", "exit 1");
    let said = words(&place.run(&[]));
    assert!(said.contains("no working C linker (cc -static)") && said.contains("install"), "{said}");

    let place = Place::new();
    std::fs::remove_file(place.path("toolchain/bin/cargo")).unwrap();
    let needed = ["sh", "id", "sed", "dirname", "mkdir", "cut", "sort", "head", "basename"];
    std::fs::create_dir(place.path("path")).unwrap();
    for tool in needed {
        symlink(Path::new("/usr/bin").join(tool), place.path("path").join(tool)).unwrap();
    }
    if Path::new("/usr/local/cargo/bin/cargo").exists() {
        println!("skipped in part: this machine has a cargo in /usr/local, where install.sh looks too");
        return;
    }
    let output = place.command(&[]).env("PATH", place.path("path")).output().unwrap();
    let said = words(&output);
    assert!(said.contains("cargo is missing") && said.contains("https://sh.rustup.rs"), "{said}");
    assert_eq!(place.snapshot(), BTreeMap::new());
}
