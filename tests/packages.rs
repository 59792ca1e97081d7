//! What installs the programs: make's recipe, for whoever has built them, and what the packages are made
//! from. (The packages themselves are tried by .ci/packages.)

use crate::support::root::PROGRAMS;
use crate::support::{Done, Room, finish, needs};
use std::path::Path;
use std::process::Command;

const TREE: &str = env!("CARGO_MANIFEST_DIR");

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(TREE).join(name)).unwrap()
}

/// A make that nobody looks after.
fn make(program: &str, arguments: &[&str]) -> Done {
    let mut make = Command::new(needs(program));
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(TREE);
    finish(make.args(arguments))
}

#[apply(test)]
fn programs_from_elsewhere_are_installed_without_a_toolchain() {
    let room = Room::new();
    for program in PROGRAMS {
        room.write(&format!("built/{program}"), &format!("I am {program}"));
    }
    let from = format!("FROM={}", room.text("built"));
    let into = format!("DESTDIR={}", room.text("root"));
    let done = make("make", &["install", &from, &into, "PREFIX=/usr", "CARGO=/none"]);
    assert_eq!(done.status, 0, "{done:?}");
    for program in PROGRAMS {
        let installed = std::fs::read_to_string(room.path(&format!("root/usr/bin/{program}"))).unwrap();
        assert_eq!(installed, format!("I am {program}"));
        assert!(room.path(&format!("root/usr/share/man/man1/{program}.1")).exists(), "{program}");
    }
    assert_eq!(make("make", &["uninstall", &into, "PREFIX=/usr"]).status, 0);
    let left = finish(Command::new("find").arg(room.path("root")).args(["-name", "*baa*"]));
    assert_eq!(left.stdout, "");
}

/// A tree of its own, in which a user's `make` seems to have built.
fn built_tree(room: &Room) -> std::path::PathBuf {
    let tree = room.path("tree");
    std::fs::create_dir(&tree).unwrap();
    for name in ["Makefile", "Cargo.toml", "Cargo.lock", "bins", "lib", "man", "completions"] {
        let done = finish(Command::new("cp").arg("-a").arg(Path::new(TREE).join(name)).arg(&tree));
        assert_eq!(done.status, 0, "{done:?}");
    }
    for program in PROGRAMS {
        room.write(&format!("tree/target/some-target/release/{program}"), &format!("I am {program}"));
    }
    room.write("tree/target/built", "target/some-target/release\n");
    tree
}

/// As root, who has no cargo; where it would be looked for is said wrongly besides.
fn install(room: &Room, tree: &Path) -> Done {
    let into = format!("DESTDIR={}", room.text("root"));
    let mut make = Command::new(needs("make"));
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env("CARGO_TARGET_DIR", "/none").current_dir(tree);
    finish(make.args(["install", &into, "CARGO=/none/cargo"]))
}

#[apply(test)]
fn what_a_user_has_built_is_installed_without_a_toolchain() {
    let room = Room::new();
    let tree = built_tree(&room);
    let done = install(&room, &tree);
    assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{}", done.stdout);
    for program in PROGRAMS {
        let installed = std::fs::read_to_string(room.path(&format!("root/usr/local/bin/{program}"))).unwrap();
        assert_eq!(installed, format!("I am {program}"));
    }
}

#[apply(test)]
fn a_build_that_is_older_than_its_sources_is_not_installed_and_it_is_said_what_to_do() {
    let room = Room::new();
    let tree = built_tree(&room);
    let newer = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let source = std::fs::File::options().append(true).open(tree.join("lib/lib.rs")).unwrap();
    source.set_modified(newer).unwrap();
    let done = install(&room, &tree);
    assert_eq!(done.status, 2, "{done:?}");
    assert!(done.stderr.contains("run make as the user who has Rust first"), "{done:?}");
    assert!(!room.path("root").exists());
}

#[apply(test)]
fn the_make_of_bsd_says_which_make_is_wanted() {
    let done = make("bmake", &["-n", "build"]);
    assert_ne!(done.status, 0);
    assert!(format!("{}{}", done.stdout, done.stderr).contains("this Makefile is for GNU make"), "{done:?}");
}

#[apply(test)]
fn every_target_is_in_the_help() {
    let help = make("make", &["help"]).stdout;
    let makefile = read("Makefile");
    let line = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    let quiet = ["all", "programs", "toolchain"];
    for target in line.split(' ').filter(|target| !quiet.contains(target)) {
        let told = help.lines().any(|line| {
            line.split_once("  ").is_some_and(|_| line.split_whitespace().any(|word| word == target))
        });
        assert!(told, "{target}: {help}");
    }
    for line in help.lines() {
        assert!(line.contains("needs "), "what it needs is not said: {line}");
    }
}

/// It brings these two programs only.
#[apply(test)]
fn an_image_is_what_its_digests_say_and_the_same_each_time() {
    needs("python3");
    let room = Room::new();
    // What the programs are is nothing to the script.
    for program in PROGRAMS {
        room.write(&format!("built/{program}"), program);
    }
    let programs = room.text("built");
    let image = |name: &str| {
        let script = Path::new(TREE).join("packaging/image");
        let mut command = Command::new(script);
        command.arg(room.path(name)).arg(format!("x86_64={programs}"));
        let done = finish(command.env("SOURCE_DATE_EPOCH", "1700000000"));
        assert_eq!(done.status, 0, "{done:?}");
        std::fs::read_to_string(room.path(name).join("index.json")).unwrap()
    };
    let index = image("one");
    assert_eq!(index, image("two"));
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let path = room.path("one/blobs/sha256").join(&digest);
        assert_eq!(descriptor["size"], std::fs::metadata(&path).unwrap().len());
        let sum = finish(Command::new("sha256sum").arg(&path)).stdout;
        assert_eq!(sum.split(' ').next().unwrap(), digest);
        path
    };
    let json =
        |path| serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(path).unwrap()).unwrap();
    let manifest = json(blob(&index["manifests"][0]));
    let config = json(blob(&manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/baa-run"]));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let list = finish(Command::new("tar").arg("-tzf").arg(blob(&manifest["layers"][0]))).stdout;
    let files: Vec<&str> = list.lines().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(files, ["etc/group", "etc/passwd", "usr/bin/baa-healthwait", "usr/bin/baa-run"]);
}

/// Where it is said once, it is said by Cargo.toml.
#[apply(test)]
fn the_address_of_the_project_is_in_one_place() {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("repository = \"")).unwrap();
    let address = line.trim_end_matches('"');
    assert!(address.starts_with("https://"), "{address}");
    for owner in ["packaging/deb", "packaging/image", "packaging/baa.rb", ".ci/dist", ".ci/sources"] {
        assert!(!read(owner).contains(address), "{owner}");
    }
}
