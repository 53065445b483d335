//! Test data: bytes that are never twice the same, digests, base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;

/// `length` bytes that look random but depend on `seed` alone; no two offsets look alike.
pub fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(length);
    content
}

/// Standard base64 with padding.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The four algorithms that the contract announces (T-085).
pub const ALGORITHMS: [&str; 4] = ["sha1", "sha256", "sha512", "md5"];

/// The digest of `bytes`; `algorithm` is one of [`ALGORITHMS`].
pub fn digest(algorithm: &str, bytes: &[u8]) -> Vec<u8> {
    match algorithm {
        "md5" => md5::Md5::digest(bytes).to_vec(),
        "sha256" => sha2::Sha256::digest(bytes).to_vec(),
        "sha512" => sha2::Sha512::digest(bytes).to_vec(),
        _ => sha1::Sha1::digest(bytes).to_vec(),
    }
}

/// The value of `Upload-Checksum` for `bytes`.
pub fn checksum(algorithm: &str, bytes: &[u8]) -> String {
    format!("{algorithm} {}", base64(digest(algorithm, bytes)))
}

/// The value of `Upload-Metadata` for these pairs.
pub fn metadata(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key} {}", base64(value)));
    pairs.collect::<Vec<_>>().join(",")
}
