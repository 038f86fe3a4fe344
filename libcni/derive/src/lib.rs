//! `#[derive(Configuration)]`: a plugin's configuration keys, each declared once.
//!
//! A field is a key. Its doc comment, up to the first empty line, is what `--help` and the documents say about it; a field without one is
//! read but not documented. The derive writes `Default` and `libcni::Configuration`: the declaration, and how to read it.
//!
//! `#[key(…)]` on a field says what differs from the usual:
//!
//! * `name = "args.cni.mac"`: the key's path. Otherwise the field's name in camelCase. Dots lead into nested objects, which other groups of
//!   keys may share.
//! * `default = expr`: the value of a key that is not given. Otherwise the type's own default.
//! * `shown = expr`: how the documents put that default. Otherwise as JSON.
//! * `brief`: the keys inside are documented in another place.
//! * `flatten`: the field is a group of keys, which stand on this level. `describe("path", shown = …, help = …)` beside it says what is
//!   different about a key of the group here.

mod field;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Result};

use crate::field::Field;

/// Writes `Default` and `libcni::Configuration` for a struct with named fields; see the crate's documentation.
#[proc_macro_derive(Configuration, attributes(key))]
pub fn configuration(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else { return Err(Error::new_spanned(input, "only a struct has keys")) };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(input, "a key needs a name: only a struct with named fields has keys"));
    };
    let fields = fields.named.iter().map(Field::read).collect::<Result<Vec<_>>>()?;
    let name = &input.ident;
    let defaults = fields.iter().map(Field::default);
    let declarations = fields.iter().map(Field::declaration);
    let values = fields.iter().map(Field::value);
    Ok(quote! {
        impl ::core::default::Default for #name {
            fn default() -> Self {
                #name { #(#defaults,)* }
            }
        }

        impl ::libcni::keys::Configuration for #name {
            fn declare(level: &mut ::libcni::keys::Level) {
                #(#declarations)*
            }

            fn read(object: &::libcni::keys::Object<'_>) -> ::core::result::Result<Self, ::libcni::Error> {
                ::core::result::Result::Ok(#name { #(#values,)* })
            }
        }
    })
}
