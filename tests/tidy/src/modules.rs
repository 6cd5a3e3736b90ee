use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Meta, UseTree};

use crate::Error;

/// The modules of one target (a library, a program, a test), and the names that each of them has.
///
/// Code that is compiled for unit tests only is left out.
#[derive(Default)]
pub struct Modules {
    pub(crate) files: Vec<File>,
    pub(crate) modules: Vec<Module>,
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.files.iter().map(|file| &file.path))
            .finish()
    }
}

/// One file of a target.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) ast: syn::File,
    /// The module whose content the file is.
    pub(crate) module: usize,
}

/// A module: a file, or a part of one.
pub(crate) struct Module {
    pub(crate) file: usize,
    parent: Option<usize>,
    names: HashMap<String, Vec<Meaning>>,
    globs: Vec<Vec<String>>,
}

/// The meaning of a name in its module. A module and a function may share one.
enum Meaning {
    Item,
    Module(usize),
    Import(Vec<String>),
}

/// Where a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An item that is defined in this file.
    Item { file: usize },
    /// A module.
    Module(usize),
}

/// A path through more imports than this is taken for one that leads nowhere.
const LONGEST_CHAIN: usize = 16;

impl Modules {
    /// Reads a target from its first file on. `read` gives a file's content, or `None` where there
    /// is no such file.
    ///
    /// # Errors
    /// A file is not Rust, or a module has no file.
    pub fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self, Error> {
        let mut modules = Self::default();
        modules.add_file(root.to_owned(), None, read)?;
        Ok(modules)
    }

    fn add_file(
        &mut self,
        path: PathBuf,
        parent: Option<usize>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize, Error> {
        let text =
            read(&path).ok_or_else(|| format!("{}: there is no such file", path.display()))?;
        let ast = syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = self.files.len();
        let module = self.add_module(file, parent);
        self.files.push(File {
            path: path.clone(),
            ast,
            module,
        });
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let stem = path.file_stem().unwrap_or_default();
        let below = match parent.is_none() || stem == "mod" {
            true => folder.clone(),
            false => folder.join(stem),
        };
        let items = self.files[file].ast.items.clone();
        self.add_items(&items, module, &Folders { own: folder, below }, read)?;
        Ok(module)
    }

    fn add_module(&mut self, file: usize, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            file,
            parent,
            names: HashMap::new(),
            globs: Vec::new(),
        });
        self.modules.len() - 1
    }

    fn add_items(
        &mut self,
        items: &[Item],
        module: usize,
        folders: &Folders,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<(), Error> {
        for item in items {
            match item {
                Item::Mod(item) if !for_unit_tests(&item.attrs) => {
                    let child = self.add_child(item, module, folders, read)?;
                    self.name(module, item.ident.to_string(), Meaning::Module(child));
                }
                Item::Use(item) if !for_unit_tests(&item.attrs) => {
                    for leaf in leaves(&item.tree) {
                        match leaf.name {
                            Some(name) => self.name(module, name, Meaning::Import(leaf.path)),
                            None => self.modules[module].globs.push(leaf.path),
                        }
                    }
                }
                _ => {
                    if let Some(name) = defined(item) {
                        self.name(module, name, Meaning::Item);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_child(
        &mut self,
        item: &ItemMod,
        parent: usize,
        folders: &Folders,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<usize, Error> {
        let name = item.ident.to_string();
        if let Some((_, items)) = &item.content {
            let child = self.add_module(self.modules[parent].file, Some(parent));
            let below = folders.below.join(name);
            self.add_items(
                items,
                child,
                &Folders {
                    own: below.clone(),
                    below,
                },
                read,
            )?;
            return Ok(child);
        }
        let candidates = match said_path(&item.attrs) {
            Some(path) => vec![folders.own.join(path)],
            None => vec![
                folders.below.join(format!("{name}.rs")),
                folders.below.join(&name).join("mod.rs"),
            ],
        };
        let path = candidates.iter().find(|path| read(path).is_some());
        let path = path.ok_or_else(|| format!("mod {name}: none of {candidates:?} is there"))?;
        self.add_file(path.clone(), Some(parent), read)
    }

    fn name(&mut self, module: usize, name: String, meaning: Meaning) {
        self.modules[module]
            .names
            .entry(name)
            .or_default()
            .push(meaning);
    }

    /// The child module of this name, if there is one.
    pub(crate) fn child(&self, module: usize, name: &str) -> Option<usize> {
        self.modules[module]
            .names
            .get(name)?
            .iter()
            .find_map(|meaning| match meaning {
                Meaning::Module(child) => Some(*child),
                _ => None,
            })
    }

    /// Where a path leads to that is written in this module; `None` for what another crate has, and
    /// for local names.
    pub(crate) fn resolve(&self, module: usize, path: &[String]) -> Option<Place> {
        self.follow(module, path, 0)
    }

    fn follow(&self, module: usize, path: &[String], depth: usize) -> Option<Place> {
        if depth > LONGEST_CHAIN {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let mut place = match first.as_str() {
            "crate" => Place::Module(0),
            "self" => Place::Module(module),
            "super" => Place::Module(self.modules[module].parent?),
            name => self.look_up(module, name, rest.is_empty(), depth)?,
        };
        for (at, name) in rest.iter().enumerate() {
            let Place::Module(inside) = place else {
                return Some(place);
            };
            place = match name.as_str() {
                "super" => Place::Module(self.modules[inside].parent?),
                "self" => Place::Module(inside),
                name => self.look_up(inside, name, at + 1 == rest.len(), depth)?,
            };
        }
        Some(place)
    }

    /// Finds the meaning of a name in a module. Only a module can have more names behind it, so it
    /// comes first unless the name is the last one.
    fn look_up(&self, module: usize, name: &str, last: bool, depth: usize) -> Option<Place> {
        if depth > LONGEST_CHAIN {
            return None;
        }
        let Module {
            file, names, globs, ..
        } = &self.modules[module];
        let places: Vec<Place> = names
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|meaning| match meaning {
                Meaning::Item => Some(Place::Item { file: *file }),
                Meaning::Module(child) => Some(Place::Module(*child)),
                Meaning::Import(path) => self.follow(module, path, depth + 1),
            })
            .collect();
        let wanted = |place: &&Place| matches!(place, Place::Item { .. }) == last;
        let found = places.iter().find(wanted).or(places.first()).copied();
        found.or_else(|| {
            globs.iter().find_map(|glob| {
                let Place::Module(inside) = self.follow(module, glob, depth + 1)? else {
                    return None;
                };
                (inside != module).then(|| self.look_up(inside, name, last, depth + 1))?
            })
        })
    }
}

/// Where the files of a module's children are.
struct Folders {
    /// The folder of the module's own file, for `#[path]`.
    own: PathBuf,
    below: PathBuf,
}

/// One name that a `use` brings in; without a name it is a glob.
pub(crate) struct Leaf {
    pub(crate) name: Option<String>,
    pub(crate) path: Vec<String>,
}

/// The names that a `use` brings in.
pub(crate) fn leaves(tree: &UseTree) -> Vec<Leaf> {
    fn walk(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<Leaf>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                walk(&part.tree, path, found);
                path.pop();
            }
            UseTree::Name(name) if name.ident == "self" => {
                found.push(Leaf {
                    name: path.last().cloned(),
                    path: path.clone(),
                });
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let path = path.iter().chain([&name]).cloned().collect();
                found.push(Leaf {
                    path,
                    name: Some(name),
                });
            }
            UseTree::Rename(rename) => {
                let name = rename.ident.to_string();
                let path = if name == "self" {
                    path.clone()
                } else {
                    [path.as_slice(), &[name]].concat()
                };
                found.push(Leaf {
                    name: Some(rename.rename.to_string()),
                    path,
                });
            }
            UseTree::Glob(_) => found.push(Leaf {
                name: None,
                path: path.clone(),
            }),
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, path, found)),
        }
    }
    let mut found = Vec::new();
    walk(tree, &mut Vec::new(), &mut found);
    found
}

/// Whether an item is compiled for unit tests only: `#[cfg(test)]`, also with further conditions.
pub(crate) fn for_unit_tests(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .any(|attribute| {
            let Meta::List(list) = &attribute.meta else {
                return false;
            };
            let condition = list.tokens.to_string();
            condition == "test"
                || condition.starts_with("all (test")
                || condition.starts_with("all(test")
        })
}

/// The path that a `#[path = "…"]` says.
fn said_path(attributes: &[Attribute]) -> Option<String> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(path),
                    ..
                }) => Some(path.value()),
                _ => None,
            },
            _ => None,
        })
}

/// The name that an item defines.
pub(crate) fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
