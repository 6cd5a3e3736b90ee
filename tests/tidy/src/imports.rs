//! Which file of a target uses which, and whether they do so in a circle.
//!
//! A file uses another one if it names an item that the other defines, however many re-exports lie
//! between. So a parent may re-export what its children define, and a child may take what its
//! parent defines; but the parent may then not use what that child defines. `mod child;` alone is
//! no use.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    path::Path,
};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMod, ItemUse, Macro, Visibility,
    visit::{self, Visit},
};

use crate::{
    Modules,
    modules::{Place, attributes, for_unit_tests, leaves},
};

/// Files that use each other, each the next one and the last one the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// A shortest way around.
    pub steps: Vec<Step>,
    /// How many files can reach each other, those of `steps` among them.
    pub files: usize,
}

/// One file's use of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file that uses.
    pub file: String,
    /// The line of its first use.
    pub line: usize,
    /// The path that it names there.
    pub path: String,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files use each other in a circle:", self.files)?;
        for Step { file, line, path } in &self.steps {
            write!(f, "\n  {file}:{line} uses {path}, of")?;
        }
        write!(
            f,
            "\n  {}",
            self.steps.first().map_or("", |step| &step.file)
        )
    }
}

/// The uses between the files of a target: from, to, and the first place of each.
type Uses = BTreeMap<usize, BTreeMap<usize, (usize, String)>>;

/// Finds every circle of a target. `name` shows a file's path.
pub fn circles(modules: &Modules, name: &dyn Fn(&Path) -> String) -> Vec<Circle> {
    let uses = uses(modules);
    let mut left: BTreeSet<usize> = uses.keys().copied().collect();
    let mut found = Vec::new();
    while let Some(start) = left.pop_first() {
        let forth = reached(start, &|file| targets(&uses, file));
        let circle: BTreeSet<usize> = forth
            .into_iter()
            .filter(|file| reached(*file, &|at| targets(&uses, at)).contains(&start))
            .collect();
        if !circle.contains(&start) {
            continue;
        }
        left.retain(|file| !circle.contains(file));
        let way = shortest_way_around(&uses, &circle);
        let steps = way.iter().enumerate().map(|(at, file)| {
            let next = way[(at + 1) % way.len()];
            let (line, path) = uses[file][&next].clone();
            Step {
                file: name(&modules.files[*file].path),
                line,
                path,
            }
        });
        found.push(Circle {
            steps: steps.collect(),
            files: circle.len(),
        });
    }
    found
}

fn targets(uses: &Uses, file: usize) -> Vec<usize> {
    uses.get(&file)
        .into_iter()
        .flat_map(|uses| uses.keys().copied())
        .collect()
}

/// The files that can be reached from this one by one step or more.
fn reached(start: usize, targets: &dyn Fn(usize) -> Vec<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut next = targets(start);
    while let Some(file) = next.pop() {
        if found.insert(file) {
            next.extend(targets(file));
        }
    }
    found
}

fn shortest_way_around(uses: &Uses, circle: &BTreeSet<usize>) -> Vec<usize> {
    let ways = circle.iter().filter_map(|start| {
        let mut ways = VecDeque::from([vec![*start]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for next in targets(uses, *way.last()?) {
                if next == *start {
                    return Some(way);
                }
                if circle.contains(&next) && seen.insert(next) {
                    ways.push_back([way.as_slice(), &[next]].concat());
                }
            }
        }
        None
    });
    ways.min_by_key(Vec::len).unwrap_or_default()
}

fn uses(modules: &Modules) -> Uses {
    let mut uses = Uses::new();
    for (file, source) in modules.files.iter().enumerate() {
        let mut names = Names {
            modules,
            module: source.module,
            paths: Vec::new(),
            reexports: Vec::new(),
        };
        names.visit_file(&source.ast);
        let Names {
            mut paths,
            reexports,
            ..
        } = names;
        // What a file re-exports and names itself, it uses.
        let named: BTreeSet<(usize, &String)> = paths
            .iter()
            .filter_map(|found| Some((found.module, found.path.first()?)))
            .collect();
        let used = reexports
            .into_iter()
            .filter(|(name, found)| named.contains(&(found.module, name)));
        let used: Vec<Found> = used.map(|(_, found)| found).collect();
        paths.extend(used);
        for Found { module, path, line } in paths {
            if let Some(Place::Item { file: target }) = modules.resolve(module, &path)
                && target != file
            {
                let first = (line, path.join("::"));
                let known = uses
                    .entry(file)
                    .or_default()
                    .entry(target)
                    .or_insert_with(|| first.clone());
                if first.0 < known.0 {
                    *known = first;
                }
            }
        }
    }
    uses
}

/// A path that a file names.
struct Found {
    module: usize,
    path: Vec<String>,
    line: usize,
}

/// Collects what a file names, but in what is compiled for unit tests only.
struct Names<'a> {
    modules: &'a Modules,
    module: usize,
    paths: Vec<Found>,
    /// Imports that the file makes visible to others.
    reexports: Vec<(String, Found)>,
}

impl Names<'_> {
    fn add(&mut self, path: Vec<String>, span: Span) {
        self.paths.push(Found {
            module: self.module,
            path,
            line: span.start().line,
        });
    }

    /// Finds paths in what a macro is given: names that `::` joins.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut span = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Punct(punct)
                    if punct.as_char() == ':' && colons < 2 && !path.is_empty() =>
                {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) if colons == 2 => path.push(ident.to_string()),
                TokenTree::Ident(ident) => {
                    self.end_path(&mut path, span);
                    (path, span) = (vec![ident.to_string()], ident.span());
                }
                other => {
                    self.end_path(&mut path, span);
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
            colons = 0;
        }
        self.end_path(&mut path, span);
    }

    fn end_path(&mut self, path: &mut Vec<String>, span: Span) {
        if !path.is_empty() {
            self.add(std::mem::take(path), span);
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !for_unit_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some(((_, items), child)) = item
            .content
            .as_ref()
            .zip(self.modules.child(self.module, &item.ident.to_string()))
        else {
            return;
        };
        let outside = std::mem::replace(&mut self.module, child);
        items.iter().for_each(|item| self.visit_item(item));
        self.module = outside;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let line = item.use_token.span.start().line;
        for leaf in leaves(&item.tree) {
            let found = Found {
                module: self.module,
                path: leaf.path,
                line,
            };
            match (&item.vis, leaf.name) {
                (Visibility::Inherited, _) => self.paths.push(found),
                (_, Some(name)) => self.reexports.push((name, found)),
                (_, None) => {}
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect();
            self.add(names, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, macro_call: &'ast Macro) {
        self.visit_path(&macro_call.path);
        self.add_tokens(macro_call.tokens.clone());
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let hidden = matches!(item, syn::ImplItem::Fn(function) if for_unit_tests(&function.attrs));
        if !hidden {
            visit::visit_impl_item(self, item);
        }
    }

    // `pub(super)` uses nothing of its parent, and attributes name no items of ours.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The circles of a crate whose files these are; the first one is its root.
    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let texts: HashMap<&Path, &str> = files
            .iter()
            .map(|(path, text)| (Path::new(*path), *text))
            .collect();
        let read = |path: &Path| texts.get(path).map(|text| (*text).to_owned());
        let modules = Modules::read(Path::new(files[0].0), &read).unwrap();
        let circles = circles(&modules, &|path| path.display().to_string());
        circles
            .iter()
            .map(|circle| {
                let files: Vec<&str> = circle.steps.iter().map(|step| step.file.as_str()).collect();
                assert!(circle.files >= files.len());
                files.join(" ")
            })
            .collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let files = [
            ("lib.rs", "mod a;\nmod b;"),
            ("a.rs", "use crate::b::B;\npub struct A(B);"),
            ("b.rs", "pub struct B;\nimpl B { fn f(_: super::a::A) {} }"),
        ];
        assert_eq!(circles_of(&files), ["a.rs b.rs"]);
    }

    #[test]
    fn re_exports_are_seen_through() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;"),
            ("a.rs", "use crate::B;\npub struct A(B);"),
            ("b.rs", "pub struct B;\nfn f() -> Option<crate::A> { None }"),
        ];
        assert_eq!(circles_of(&files), ["a.rs b.rs"]);
    }

    #[test]
    fn a_parent_may_re_export_a_child_that_uses_it() {
        let files = [
            ("lib.rs", "mod a;"),
            (
                "a/mod.rs",
                "mod child;\npub(crate) use child::Child;\npub struct A;",
            ),
            ("a/child.rs", "use super::A;\npub struct Child(A);"),
        ];
        assert!(circles_of(&files).is_empty());
    }

    #[test]
    fn a_parent_that_uses_a_child_that_uses_it_is_a_circle() {
        for parent in [
            "pub use child::Child;\npub struct A(Child);",
            "pub struct A;\nfn f() { child::Child::go() }",
        ] {
            let files = [
                ("lib.rs", "mod a;"),
                ("a.rs", &format!("mod child;\n{parent}")),
                ("a/child.rs", "use super::A;\npub struct Child(A);"),
            ];
            assert_eq!(circles_of(&files), ["a.rs a/child.rs"]);
        }
    }

    #[test]
    fn paths_in_macros_are_seen_and_unit_tests_are_not() {
        let b = |body: &str| {
            circles_of(&[
                ("lib.rs", "mod a;\nmod b;"),
                ("a.rs", "use crate::b::b;\npub fn a() { b() }"),
                ("b.rs", &format!("pub fn b() {{}}\n{body}")),
            ])
        };
        assert_eq!(
            b("fn f() { assert!([crate::a::a()].is_empty()) }"),
            ["a.rs b.rs"]
        );
        assert!(b("#[cfg(test)]\nmod tests { use crate::a::a; }").is_empty());
        assert!(b("#[cfg(test)]\nfn f() { crate::a::a() }").is_empty());
        assert!(b("fn f() { assert!(\"crate::a::a\".is_empty()) }").is_empty());
    }

    #[test]
    fn a_circle_says_its_lines_and_its_size() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            (
                "a.rs",
                "use crate::b::B;\nuse crate::c::C;\npub struct A(B, C);",
            ),
            ("b.rs", "\nuse crate::a::A;\npub struct B;"),
            ("c.rs", "use crate::a::A;\npub struct C;"),
        ];
        let texts: HashMap<&Path, &str> = files
            .iter()
            .map(|(path, text)| (Path::new(*path), *text))
            .collect();
        let modules = Modules::read(Path::new("lib.rs"), &|path| {
            texts.get(path).map(|text| (*text).to_owned())
        });
        let circles = circles(&modules.unwrap(), &|path| path.display().to_string());
        assert_eq!(
            circles[0].to_string(),
            "3 files use each other in a circle:\n  a.rs:1 uses crate::b::B, of\n  b.rs:2 uses crate::a::A, of\n  a.rs"
        );
    }
}
