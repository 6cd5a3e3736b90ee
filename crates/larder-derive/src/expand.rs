use std::collections::HashSet;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, Generics, Ident, Index, LitStr, Member, Path,
    Type, Variant, ext::IdentExt, parse_quote, spanned::Spanned,
};

/// Implements the trait for a type. `reexporter` is the crate from which the application has the
/// macro.
///
/// An error becomes a `compile_error!` at the place that it is about.
pub(crate) fn cache_key(input: TokenStream, reexporter: &str) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| implement(&input, reexporter))
        .unwrap_or_else(Error::into_compile_error)
}

fn implement(input: &DeriveInput, reexporter: &str) -> Result<TokenStream, Error> {
    let krate = crate_path(&input.attrs)?.map_or_else(
        || {
            let name = Ident::new(reexporter, Span::call_site());
            quote!(::#name)
        },
        Path::into_token_stream,
    );
    let body = match &input.data {
        Data::Struct(data) => of_struct(&input.ident, &data.fields, &krate)?,
        Data::Enum(data) => of_enum(
            &input.ident,
            &data.variants.iter().collect::<Vec<_>>(),
            &krate,
        )?,
        Data::Union(data) => {
            let problem =
                "a union cannot be a CacheKey: nothing tells which of its fields is the key";
            return Err(Error::new(data.union_token.span, problem));
        }
    };
    let name = &input.ident;
    let generics = bounded(input, &krate);
    let (parameters, arguments, bounds) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #parameters #krate::CacheKey for #name #arguments #bounds {
            #[inline]
            fn write_to(&self, out: &mut #krate::KeyBuf) {
                #body
            }
        }
    })
}

fn of_struct(name: &Ident, fields: &Fields, krate: &TokenStream) -> Result<TokenStream, Error> {
    let parts = parts(fields)?;
    if parts.is_empty() {
        let problem = format!(
            "`{name}` has no fields, so all its values would name one entry: add a field, or use an enum"
        );
        return Err(Error::new(name.span(), problem));
    }
    let writes = parts
        .into_iter()
        .map(|(member, ty)| write(&quote!(&self.#member), ty, krate));
    Ok(joined(writes))
}

fn of_enum(name: &Ident, variants: &[&Variant], krate: &TokenStream) -> Result<TokenStream, Error> {
    if variants.is_empty() {
        return Err(Error::new(
            name.span(),
            format!("`{name}` has no variants, so it names no entry"),
        ));
    }
    let mut texts = HashSet::new();
    let mut arms = Vec::new();
    for variant in variants {
        let text = variant_text(variant)?;
        if !texts.insert(text.value()) {
            let problem = format!("another variant has the text {:?} already", text.value());
            return Err(Error::new(text.span(), problem));
        }
        let parts = parts(&variant.fields)?;
        let bound = |at: usize| format_ident!("part{at}");
        let names = parts.iter().enumerate().map(|(at, (member, _))| {
            let name = bound(at);
            quote!(#member: #name)
        });
        let writes = parts.iter().enumerate().map(|(at, (_, ty))| {
            let name = bound(at);
            write(&name.into_token_stream(), ty, krate)
        });
        let body = joined([quote!(out.push(#text);)].into_iter().chain(writes));
        let variant = &variant.ident;
        arms.push(quote!(Self::#variant { #(#names,)* .. } => { #body }));
    }
    Ok(quote!(match self { #(#arms)* }))
}

/// The fields that are written.
fn parts(fields: &Fields) -> Result<Vec<(Member, &Type)>, Error> {
    let mut parts = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        options(&field.attrs, &[])?;
        if !is_phantom(&field.ty) {
            let member = field
                .ident
                .clone()
                .map_or_else(|| Member::Unnamed(Index::from(at)), Member::Named);
            parts.push((member, &field.ty));
        }
    }
    Ok(parts)
}

/// The text of a variant: its name, or the text of `rename`.
fn variant_text(variant: &Variant) -> Result<LitStr, Error> {
    let renamed = options(&variant.attrs, &["rename"])?.rename;
    if let Some(text) = renamed.as_ref().filter(|text| text.value().is_empty()) {
        return Err(Error::new(
            text.span(),
            "the text of a variant must not be empty",
        ));
    }
    let name = &variant.ident;
    Ok(renamed.unwrap_or_else(|| LitStr::new(&name.unraw().to_string(), name.span())))
}

fn write(value: &TokenStream, ty: &Type, krate: &TokenStream) -> TokenStream {
    quote_spanned!(ty.span()=> #krate::CacheKey::<#ty>::write_to(#value, out);)
}

fn joined(writes: impl IntoIterator<Item = TokenStream>) -> TokenStream {
    let mut all = TokenStream::new();
    for write in writes {
        if !all.is_empty() {
            all.extend(quote!(out.next_part();));
        }
        all.extend(write);
    }
    all
}

/// The type's generics, with a bound for each written field whose type depends on them.
fn bounded(input: &DeriveInput, krate: &TokenStream) -> Generics {
    let mut generics = input.generics.clone();
    let parameters: HashSet<Ident> = generics
        .type_params()
        .map(|parameter| parameter.ident.clone())
        .collect();
    let fields: Vec<&Fields> = match &input.data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| &variant.fields)
            .collect(),
        Data::Union(_) => Vec::new(),
    };
    let types = fields.into_iter().flatten().map(|field| &field.ty);
    for ty in types.filter(|ty| !is_phantom(ty) && mentions(ty.to_token_stream(), &parameters)) {
        generics
            .make_where_clause()
            .predicates
            .push(parse_quote!(#ty: #krate::CacheKey));
    }
    generics
}

fn mentions(tokens: TokenStream, names: &HashSet<Ident>) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(name) => names.contains(&name),
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Tells whether a field is `PhantomData`, which has no text.
fn is_phantom(ty: &Type) -> bool {
    matches!(ty, Type::Path(ty) if ty.path.segments.last().is_some_and(|last| last.ident == "PhantomData"))
}

#[derive(Default)]
struct Options {
    krate: Option<Path>,
    rename: Option<LitStr>,
}

fn crate_path(attributes: &[Attribute]) -> Result<Option<Path>, Error> {
    Ok(options(attributes, &["crate"])?.krate)
}

/// Reads the `#[cache_key(…)]` of one place, where only the options in `allowed` are possible.
fn options(attributes: &[Attribute], allowed: &[&str]) -> Result<Options, Error> {
    let mut options = Options::default();
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cache_key"))
    {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.to_token_stream().to_string();
            match name.as_str() {
                "crate" if allowed.contains(&"crate") => {
                    options.krate = Some(meta.value()?.call(Path::parse_mod_style)?);
                }
                "rename" if allowed.contains(&"rename") => {
                    options.rename = Some(meta.value()?.parse()?)
                }
                _ => return Err(meta.error(unknown(&name, allowed))),
            }
            Ok(())
        })?;
    }
    Ok(options)
}

fn unknown(name: &str, allowed: &[&str]) -> String {
    match allowed {
        [] => format!("`{name}` is no option here: a field has none"),
        _ => format!(
            "`{name}` is no option here, only `{}` is",
            allowed.join("`, `")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: TokenStream) -> String {
        let expanded = cache_key(input, "larder").to_string();
        let message = expanded
            .split_once("compile_error ! {")
            .map(|(_, rest)| rest.trim().to_owned());
        message.unwrap_or_else(|| panic!("it compiles: {expanded}"))
    }

    #[test]
    fn what_cannot_be_a_key_says_why() {
        let cases = [
            (quote!(union U { a: u8 }), "a union cannot be a CacheKey"),
            (
                quote!(
                    struct S;
                ),
                "`S` has no fields",
            ),
            (
                quote!(
                    struct S {}
                ),
                "`S` has no fields",
            ),
            (
                quote!(
                    struct S<T>(PhantomData<T>);
                ),
                "`S` has no fields",
            ),
            (
                quote!(
                    enum E {}
                ),
                "`E` has no variants",
            ),
            (
                quote!(
                    enum E {
                        #[cache_key(rename = "B")]
                        A,
                        B,
                    }
                ),
                "another variant has the text",
            ),
            (
                quote!(
                    enum E {
                        #[cache_key(rename = "")]
                        A,
                    }
                ),
                "must not be empty",
            ),
            (
                quote!(
                    #[cache_key(rename = "x")]
                    struct S(u8);
                ),
                "only `crate` is",
            ),
            (
                quote!(
                    struct S(#[cache_key(skip)] u8);
                ),
                "`skip` is no option here: a field has none",
            ),
        ];
        for (input, message) in cases {
            let text = input.to_string();
            assert!(error(input).contains(message), "{text}");
        }
    }

    #[test]
    fn crate_is_the_reexporting_one_unless_it_was_renamed() {
        let expand = |input, reexporter| cache_key(input, reexporter).to_string();
        assert!(
            expand(
                quote!(
                    struct S(u8);
                ),
                "larder"
            )
            .contains(":: larder :: CacheKey for S")
        );
        assert!(
            expand(
                quote!(
                    struct S(u8);
                ),
                "larder_core"
            )
            .contains(":: larder_core :: CacheKey for S")
        );
        let renamed = quote!(
            #[cache_key(crate = my::cache)]
            struct S(u8);
        );
        assert!(expand(renamed, "larder").contains("my :: cache :: CacheKey for S"));
    }

    #[test]
    fn only_written_fields_are_bounded() {
        let input = quote!(
            struct Id<T, U> {
                raw: U,
                fixed: u64,
                of: std::marker::PhantomData<T>,
            }
        );
        let expanded = cache_key(input, "larder").to_string();
        assert!(
            expanded.contains("where U : :: larder :: CacheKey {"),
            "{expanded}"
        );
    }
}
