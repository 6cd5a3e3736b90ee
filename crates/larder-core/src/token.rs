use std::fmt;

/// Names one attempt to get a lease. No two attempts share one, in any process.
///
/// It is 128 bits of the operating system's randomness, drawn anew for each token. Nothing is
/// buffered, so also the two copies of a cloned process (a fork, a restored snapshot of a virtual
/// machine) make different tokens.
///
/// # Examples
/// ```
/// use larder_core::Token;
///
/// assert_ne!(Token::new(), Token::new());
/// assert_eq!(Token::new().as_str().len(), 32);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token([u8; DIGITS]);

/// Hexadecimal digits of a token, 32: two for each of 16 bytes.
const DIGITS: usize = 2 * size_of::<u128>();

impl Token {
    /// Draws a token that no other attempt has.
    ///
    /// # Panics
    /// Where the operating system has no randomness, as the standard library's hash maps do.
    #[expect(
        clippy::new_without_default,
        reason = "two tokens are never equal, so none is the default"
    )]
    #[expect(clippy::expect_used, reason = "no lease is safe without randomness")]
    pub fn new() -> Self {
        let mut bytes = [0; DIGITS / 2];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        let mut digits = [0; DIGITS];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        }
        Self(digits)
    }

    /// The token as text: 32 lower-case hexadecimal digits.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "digits are ASCII"
    )]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits are UTF-8")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that is drawn once for each process would be the same in both copies of a cloned one.
    #[test]
    fn no_part_of_a_token_is_drawn_for_the_whole_process() {
        let bits = |token: &Token| u128::from_str_radix(token.as_str(), 16).unwrap();
        let tokens: Vec<u128> = (0..200).map(|_| bits(&Token::new())).collect();
        let changes = tokens
            .windows(2)
            .fold(0, |changes, two| changes | (two[0] ^ two[1]));
        assert_eq!(changes, u128::MAX, "each of the 128 bits changes");
    }
}
