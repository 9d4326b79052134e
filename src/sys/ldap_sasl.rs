//! The questions that SASL mechanisms ask during a login, answered from what is configured.

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

/// Identity and mechanism of a login.
#[derive(Debug, Default)]
pub struct Login {
    /// The user.
    pub user: Vec<u8>,
    /// The password.
    pub secret: Vec<u8>,
}

/// The callback of `ldap_sasl_interactive_bind_s`.
pub(super) type Interact = unsafe extern "C" fn(super::ldap::Handle, c_uint, *mut c_void, *mut c_void) -> c_int;

/// `sasl_interact_t` of `sasl/sasl.h`.
#[repr(C)]
struct Question {
    id: c_ulong,
    challenge: *const c_char,
    prompt: *const c_char,
    default: *const c_char,
    result: *const c_void,
    length: c_uint,
}

const LIST_END: c_ulong = 0;
const AUTHNAME: c_ulong = 0x4002;
const PASS: c_ulong = 0x4004;
const ECHO_PROMPT: c_ulong = 0x4005;
const NO_ECHO_PROMPT: c_ulong = 0x4006;

/// Answers all questions of a mechanism. Those for another identity or a realm get the default.
///
/// # Safety
/// `login` is the [`Login`] that was given to the bind, and `questions` an array that ends with [`LIST_END`].
pub(super) unsafe extern "C" fn interact(
    _: super::ldap::Handle,
    _: c_uint,
    login: *mut c_void,
    questions: *mut c_void,
) -> c_int {
    // SAFETY: as the caller guarantees.
    let login = unsafe { &*login.cast::<Login>() };
    let mut question = questions.cast::<Question>();
    // SAFETY: the array ends with LIST_END. The answers live as long as the login, longer than the call.
    unsafe {
        while (*question).id != LIST_END {
            let answer: Option<&[u8]> = match (*question).id {
                AUTHNAME | ECHO_PROMPT => Some(&login.user),
                PASS | NO_ECHO_PROMPT => Some(&login.secret),
                _ => None,
            };
            match answer {
                Some(answer) => {
                    (*question).result = answer.as_ptr().cast();
                    (*question).length = c_uint::try_from(answer.len()).unwrap_or(0);
                }
                None => {
                    let default = (*question).default;
                    (*question).result = if default.is_null() { c"".as_ptr().cast() } else { default.cast() };
                    (*question).length =
                        if default.is_null() { 0 } else { c_uint::try_from(libc::strlen(default)).unwrap_or(0) };
                }
            }
            question = question.add(1);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn questions_are_answered() {
        let login = Login { user: b"reader".to_vec(), secret: b"x".to_vec() };
        let ask = |id, default| Question {
            id,
            challenge: ptr::null(),
            prompt: ptr::null(),
            default,
            result: ptr::null(),
            length: 9,
        };
        let mut questions = [
            ask(AUTHNAME, ptr::null()),
            ask(PASS, ptr::null()),
            ask(0x4001, ptr::null()),
            ask(0x4008, c"EX".as_ptr()),
            ask(LIST_END, ptr::null()),
        ];
        let given = ptr::from_ref(&login).cast_mut().cast();
        // SAFETY: the login and an array that ends as it should.
        assert_eq!(unsafe { interact(ptr::null_mut(), 0, given, questions.as_mut_ptr().cast()) }, 0);
        let lengths: Vec<_> = questions.iter().map(|question| question.length).collect();
        assert_eq!(lengths, [6, 1, 0, 2, 9]);
        assert_eq!(questions[0].result, login.user.as_ptr().cast());
    }
}
