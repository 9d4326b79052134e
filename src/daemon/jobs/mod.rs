//! Carries out what the engine asks for: resolve, mount, unmount, expire.

pub(crate) mod browse;
pub(crate) mod expire;
pub(crate) mod perform;
pub(crate) mod placeholder;
pub(crate) mod resolve;
pub(crate) mod unmount;
