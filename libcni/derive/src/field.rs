//! One field: what its type, doc comment and `#[key(…)]` say, and the code that follows.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Meta, Result, Token, Type, parenthesized};

/// A key, or a group of them.
pub struct Field {
    ident: Ident,
    ty: Type,
    /// The key's path.
    name: String,
    /// Empty for a key that is not documented.
    help: String,
    default: Option<Expr>,
    shown: Option<Expr>,
    brief: bool,
    flatten: bool,
    descriptions: Vec<Description>,
}

/// `describe("path", shown = …, help = …)`.
struct Description {
    path: LitStr,
    shown: Option<Expr>,
    help: Option<Expr>,
}

impl Field {
    /// Reads doc comment and attributes.
    pub fn read(field: &syn::Field) -> Result<Self> {
        let ident = field.ident.clone().expect("a named field");
        let mut read = Field {
            name: camel_case(&ident.to_string()),
            help: help(&field.attrs),
            ty: field.ty.clone(),
            ident,
            default: None,
            shown: None,
            brief: false,
            flatten: false,
            descriptions: Vec::new(),
        };
        for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("key")) {
            attribute.parse_nested_meta(|meta| read.attribute(&meta))?;
        }
        Ok(read)
    }

    fn attribute(&mut self, meta: &ParseNestedMeta) -> Result<()> {
        let word = meta.path.require_ident()?.to_string();
        match word.as_str() {
            "name" => self.name = meta.value()?.parse::<LitStr>()?.value(),
            "default" => self.default = Some(meta.value()?.parse()?),
            "shown" => self.shown = Some(meta.value()?.parse()?),
            "brief" => self.brief = true,
            "flatten" => self.flatten = true,
            "describe" => self.descriptions.push(Description::read(meta)?),
            _ => return Err(meta.error("one of name, default, shown, brief, flatten, describe")),
        }
        Ok(())
    }

    /// `field: default`.
    pub fn default(&self) -> TokenStream {
        let (ident, value) = (&self.ident, self.default_value());
        quote!(#ident: #value)
    }

    fn default_value(&self) -> TokenStream {
        match &self.default {
            Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => quote!(::std::string::String::from(#text)),
            Some(default) => quote!(#default),
            None => quote!(::core::default::Default::default()),
        }
    }

    /// A statement that adds the key, or the group, to `level`.
    pub fn declaration(&self) -> TokenStream {
        let ty = &self.ty;
        let descriptions = self.descriptions.iter().map(Description::statement);
        if self.flatten {
            return quote! {
                <#ty as ::libcni::keys::Configuration>::declare(level);
                #(#descriptions)*
            };
        }
        let (name, help, brief) = (&self.name, &self.help, self.brief);
        let shown = match &self.shown {
            Some(shown) => quote!(::libcni::keys::Shown::Words(#shown)),
            None => {
                let default = self.default_value();
                quote!(::libcni::keys::Shown::Json(|| <#ty as ::libcni::keys::KeyType>::shown(&#default)))
            }
        };
        // A path leads into objects that other keys may share; a name of this level is here for the first time.
        let declare = if name.contains('.') { quote!(declare) } else { quote!(push) };
        quote! {
            level.#declare(#name, <#ty as ::libcni::keys::Shaped>::shape(), ::libcni::keys::Words {
                help: #help, shown: #shown, brief: #brief,
            });
        }
    }

    /// `field: value`, read from `object`.
    pub fn value(&self) -> TokenStream {
        let (ident, ty, name, default) = (&self.ident, &self.ty, &self.name, self.default_value());
        if self.flatten {
            return quote!(#ident: <#ty as ::libcni::keys::Configuration>::read(object)?);
        }
        quote!(#ident: object.value::<#ty>(#name)?.unwrap_or_else(|| #default))
    }
}

impl Description {
    fn read(meta: &ParseNestedMeta) -> Result<Self> {
        let inside;
        parenthesized!(inside in meta.input);
        let mut description = Description { path: inside.parse()?, shown: None, help: None };
        while !inside.is_empty() {
            inside.parse::<Token![,]>()?;
            let word: Ident = inside.parse()?;
            inside.parse::<Token![=]>()?;
            let value = Some(inside.parse()?);
            match word.to_string().as_str() {
                "shown" => description.shown = value,
                "help" => description.help = value,
                _ => return Err(syn::Error::new(word.span(), "shown or help")),
            }
        }
        Ok(description)
    }

    fn statement(&self) -> TokenStream {
        let path = &self.path;
        let shown = self.shown.iter().map(|shown| quote!(words.shown = ::libcni::keys::Shown::Words(#shown);));
        let help = self.help.iter().map(|help| quote!(words.help = #help;));
        quote!(level.describe(#path, |words| { #(#shown)* #(#help)* });)
    }
}

/// `ip_masq_backend` is `ipMasqBackend`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        name + &initial.to_uppercase() + rest
    })
}

/// The first paragraph of the doc comment as a line of help: without the full stop, and in small letters where it does not begin with a
/// name.
fn help(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let text = paragraph.join(" ").replace('`', "");
    let text = text.strip_suffix('.').unwrap_or(&text);
    let first_word = text.split([' ', ',', ':']).next().unwrap_or_default();
    match first_word.chars().skip(1).any(char::is_uppercase) {
        true => text.to_owned(),
        false => {
            let (initial, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
            initial.to_lowercase() + rest
        }
    }
}
