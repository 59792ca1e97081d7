//! Numbers that nobody can guess (getrandom(2), getentropy(2)).

/// 128 bits as 32 hexadecimal digits.
pub fn hex() -> String {
    let mut bytes = [0u8; 16];
    if !fill(&mut bytes) {
        // No kernel that we run on refuses. A name that is at least our own, not one that all would share.
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let own = u128::from(std::process::id()) << 96;
        bytes = (own ^ time.as_nanos()).to_be_bytes();
    }
    digits(&bytes)
}

/// The same for a secret: nothing else will do.
///
/// # Errors
/// Where the kernel has none.
pub fn secret() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    if fill(&mut bytes) { Ok(digits(&bytes)) } else { Err(std::io::Error::last_os_error()) }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fill(bytes: &mut [u8; 16]) -> bool {
    // Up to 256 bytes come at once and whole.
    #[cfg(target_os = "linux")]
    // SAFETY: the buffer is as long as we say.
    let whole = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } == bytes.len() as isize;
    #[cfg(not(target_os = "linux"))]
    // SAFETY: the buffer is as long as we say.
    let whole = unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) } == 0;
    whole
}
