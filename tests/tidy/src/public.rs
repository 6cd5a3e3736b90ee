//! Public items, and whether an example shows each.

use syn::{
    Attribute, Expr, ExprLit, ImplItemFn, Item, ItemImpl, ItemTrait, Lit, Meta, TraitItemFn,
    Visibility,
    visit::{self, Visit},
};

use crate::modules::{attributes, defined, for_unit_tests};

/// Public types, functions, methods and constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Public {
    /// All of them. `unreachable_pub` sees to it that `pub` means public.
    pub items: usize,
    /// Those with a runnable example in their documentation.
    pub with_example: usize,
}

/// Counts the public items of a file.
///
/// # Errors
/// The text is not Rust.
pub fn public_items(text: &str) -> syn::Result<Public> {
    let mut count = Count::default();
    count.visit_file(&syn::parse_file(text)?);
    Ok(count.0)
}

#[derive(Default)]
struct Count(Public);

impl Count {
    fn add(&mut self, attributes: &[Attribute]) {
        self.0.items += 1;
        self.0.with_example += usize::from(has_example(attributes));
    }
}

impl<'ast> Visit<'ast> for Count {
    fn visit_item(&mut self, item: &'ast Item) {
        if for_unit_tests(attributes(item)) {
            return;
        }
        if defined(item).is_some() && is_public(item) {
            self.add(attributes(item));
        }
        visit::visit_item(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if item.trait_.is_none() {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        if matches!(item.vis, Visibility::Public(_)) {
            visit::visit_item_trait(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if matches!(function.vis, Visibility::Public(_)) {
            self.add(&function.attrs);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        self.add(&function.attrs);
    }
}

fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Macro(item) => {
            return item
                .attrs
                .iter()
                .any(|attribute| attribute.path().is_ident("macro_export"));
        }
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

/// Reports whether some fenced block of the documentation is run as a test.
fn has_example(attributes: &[Attribute]) -> bool {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(line),
                    ..
                }) => Some(line.value()),
                _ => None,
            },
            _ => None,
        });
    let mut inside = false;
    lines.into_iter().any(|line| {
        let Some(kind) = line.trim().strip_prefix("```") else {
            return false;
        };
        inside = !inside;
        inside && matches!(kind, "" | "rust" | "no_run" | "should_panic")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_items_are_counted_with_their_examples() {
        let text = "
            /// One.
            ///
            /// ```
            /// f();
            /// ```
            pub struct A;
            /// ```text
            /// picture
            /// ```
            pub fn f() {}
            pub(crate) fn inside() {}
            impl A { pub fn g() {} fn h() {} }
            impl Clone for A { fn clone(&self) -> Self { A } }
            pub trait T { fn t(); }
            #[cfg(test)]
            mod tests { pub fn f() {} }
        ";
        assert_eq!(
            public_items(text).unwrap(),
            Public {
                items: 5,
                with_example: 1
            }
        );
    }
}
