//! How long functions are.

use proc_macro2::Span;
use syn::{
    Error, ExprArray, ImplItemFn, ItemFn, LitStr, Macro, Signature, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A function and its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its signature.
    pub line: usize,
    /// Lines from the signature to the closing brace, without those of tables: a list or a text
    /// that spans several lines counts as one.
    pub lines: usize,
}

/// The functions of a file, in their order; each with those inside it.
///
/// # Errors
/// The text is not Rust.
pub fn functions(text: &str) -> Result<Vec<Function>, Error> {
    let mut lengths = Lengths { found: Vec::new() };
    lengths.visit_file(&syn::parse_file(text)?);
    Ok(lengths.found)
}

struct Lengths {
    found: Vec<Function>,
}

impl Lengths {
    fn add(&mut self, signature: &Signature, end: Span, body: &syn::Block) {
        let (from, to) = (signature.span().start().line, end.end().line);
        let mut tables = Tables { lines: 0 };
        tables.visit_block(body);
        let lines = (to + 1 - from).saturating_sub(tables.lines);
        self.found.push(Function {
            name: signature.ident.to_string(),
            line: from,
            lines,
        });
    }
}

impl<'ast> Visit<'ast> for Lengths {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig, function.block.span(), &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, function.block.span(), &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block.span(), block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Counts the lines that lists and texts take past their first ones.
struct Tables {
    lines: usize,
}

impl Tables {
    fn add(&mut self, span: Span) {
        self.lines += span.end().line - span.start().line;
    }
}

impl<'ast> Visit<'ast> for Tables {
    fn visit_expr_array(&mut self, list: &'ast ExprArray) {
        self.add(list.span());
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.add(text.span());
    }

    fn visit_macro(&mut self, macro_call: &'ast Macro) {
        if macro_call.path.is_ident("vec") {
            self.add(macro_call.delimiter.span().join());
        }
    }
}
