use syn::{
    Attribute, ImplItem, Item, TraitItem, Type,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::modules::{attributes, defined, for_unit_tests};

/// The functions and types of a file, by their lines.
#[derive(Default)]
pub(crate) struct Scopes {
    found: Vec<Scope>,
    /// The type or trait whose items are being visited.
    inside: Option<String>,
    in_test: bool,
}

/// One function or type.
pub(crate) struct Scope {
    /// `Lane::get`, `Lane` or `connect`.
    pub(crate) name: String,
    /// Whether it is compiled for unit tests only.
    pub(crate) in_test: bool,
    first: usize,
    last: usize,
}

impl Scopes {
    pub(crate) fn of(text: &str) -> syn::Result<Self> {
        let mut scopes = Self::default();
        scopes.visit_file(&syn::parse_file(text)?);
        Ok(scopes)
    }

    /// Finds the innermost scope of a line. A comment on a line of its own belongs to the code
    /// below it.
    pub(crate) fn around(&self, text: &str, line: usize) -> Option<&Scope> {
        let is_comment = |line: &&str| line.trim_start().starts_with("//");
        let line = line + text.lines().skip(line - 1).take_while(is_comment).count();
        let around = self
            .found
            .iter()
            .filter(|scope| (scope.first..=scope.last).contains(&line));
        around.min_by_key(|scope| scope.last - scope.first)
    }

    fn add(&mut self, name: String, item: &impl Spanned) {
        let name = match &self.inside {
            Some(inside) => format!("{inside}::{name}"),
            None => name,
        };
        let (first, last) = (item.span().start().line, item.span().end().line);
        self.found.push(Scope {
            name,
            in_test: self.in_test,
            first,
            last,
        });
    }

    fn within(
        &mut self,
        inside: Option<String>,
        attributes: &[Attribute],
        visit: impl FnOnce(&mut Self),
    ) {
        let outside = std::mem::replace(&mut self.inside, inside);
        let in_test = self.in_test;
        self.in_test |= for_unit_tests(attributes);
        visit(self);
        (self.inside, self.in_test) = (outside, in_test);
    }
}

impl<'ast> Visit<'ast> for Scopes {
    fn visit_item(&mut self, item: &'ast Item) {
        let inside = match item {
            Item::Impl(item) => type_name(&item.self_ty),
            Item::Trait(item) => Some(item.ident.to_string()),
            _ => None,
        };
        self.within(inside, attributes(item), |scopes| {
            if let Some(name) = defined(item) {
                let outside = scopes.inside.take();
                scopes.add(name, item);
                scopes.inside = outside;
            }
            visit::visit_item(scopes, item);
        });
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(function) => self.add(function.sig.ident.to_string(), item),
            ImplItem::Const(constant) => self.add(constant.ident.to_string(), item),
            _ => {}
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        match item {
            TraitItem::Fn(function) => self.add(function.sig.ident.to_string(), item),
            TraitItem::Const(constant) => self.add(constant.ident.to_string(), item),
            _ => {}
        }
        visit::visit_trait_item(self, item);
    }
}

fn type_name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string()),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_belongs_to_the_innermost_item_or_to_the_one_below() {
        let text = "\
/// doc
struct A {
    // field
    a: u8,
}
// above
impl A {
    // before
    fn f() {
        // inside
        if true {} // behind
    }
}
#[cfg(test)]
mod tests {
    fn t() {} // test
}
// at the end";
        let scopes = Scopes::of(text).unwrap();
        let around = |line| {
            scopes
                .around(text, line)
                .map(|scope| (scope.name.as_str(), scope.in_test))
        };
        for (line, name) in [(1, "A"), (3, "A"), (8, "A::f"), (10, "A::f"), (11, "A::f")] {
            assert_eq!(around(line), Some((name, false)), "line {line}");
        }
        assert_eq!(around(16), Some(("t", true)));
        assert_eq!((around(6), around(18)), (None, None));
    }
}
