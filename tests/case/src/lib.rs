//! The attribute `#[case]`: registers a function as a test of a privileged suite.
//!
//! The suites have no libtest harness, since each of their tests runs in a process of its own. With this attribute the
//! name of a test still occurs only once.

use proc_macro::{TokenStream, TokenTree};

/// Registers the function below as a `Case` with the name `MODULE::FUNCTION`.
///
/// `#[case(seconds: 120, lacking: needs::theirs)]` sets fields that differ from `Case::new`.
#[proc_macro_attribute]
pub fn case(fields: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens = function.clone().into_iter();
    let is_fn = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let name = tokens.by_ref().find(is_fn).and(tokens.next());
    let registration = match name {
        Some(TokenTree::Ident(name)) => {
            let separator = if fields.is_empty() { "" } else { "," };
            format!(
                "::inventory::submit! {{ crate::common::suite::Case {{ {fields} {separator}
                     ..crate::common::suite::Case::new(concat!(module_path!(), \"::{name}\"), {name})
                 }} }}"
            )
        }
        _ => "compile_error!(\"#[case] needs a function\");".to_owned(),
    };
    let registration: TokenStream = registration.parse().unwrap_or_default();
    function.into_iter().chain(registration).collect()
}
