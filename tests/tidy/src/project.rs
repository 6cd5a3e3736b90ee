use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cargo_metadata::{Metadata, MetadataCommand, Package};

/// Says what could not be read.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A file of the project, with its path from the project's root.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path from the project's root, with `/` on every platform.
    pub path: String,
    /// The content.
    pub text: String,
}

/// The folders that hold source of the project's own.
const FOLDERS: [&str; 3] = ["crates", "tests", "benches"];

/// The project's tree: its packages, as cargo knows them, and its files.
#[derive(Debug)]
pub struct Project {
    root: PathBuf,
    metadata: Metadata,
    sources: Vec<Source>,
}

impl Project {
    /// Reads the project that this package was built in.
    ///
    /// # Errors
    /// A file cannot be read, or cargo cannot list the packages.
    pub fn here() -> Result<Self, Error> {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
    }

    /// Reads the project in this folder.
    ///
    /// # Errors
    /// A file cannot be read, or cargo cannot list the packages.
    pub fn at(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref().canonicalize()?;
        let manifest = root.join("Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()?;
        let mut sources = Vec::new();
        for folder in FOLDERS {
            read_folder(&root, &root.join(folder), &mut sources)?;
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            root,
            metadata,
            sources,
        })
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The Rust and Lua files below `crates`, `tests` and `benches`, sorted by path.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The Rust files among [`sources`](Self::sources).
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.sources
            .iter()
            .filter(|source| source.path.ends_with(".rs"))
    }

    /// The packages of the workspace.
    pub fn packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    /// The packages that are published on crates.io.
    pub fn published(&self) -> impl Iterator<Item = &Package> {
        self.packages()
            .iter()
            .filter(|package| package.publish.is_none())
    }

    /// The content of a file, by its path from the root.
    ///
    /// # Errors
    /// The file cannot be read; the error names it.
    pub fn read(&self, path: &str) -> Result<String, Error> {
        fs::read_to_string(self.root.join(path)).map_err(|error| format!("{path}: {error}").into())
    }

    /// The path from the root, with `/` on every platform.
    pub fn relative(&self, path: &Path) -> String {
        slashes(path.strip_prefix(&self.root).unwrap_or(path))
    }
}

fn slashes(path: &Path) -> String {
    path.components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                read_folder(root, &path, sources)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "lua")
        {
            let text = fs::read_to_string(&path)?;
            sources.push(Source {
                path: slashes(path.strip_prefix(root).unwrap_or(&path)),
                text,
            });
        }
    }
    Ok(())
}
