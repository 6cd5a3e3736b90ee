use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A connection of another program: a few lines of RESP2 that share nothing with the client under
/// test.
///
/// ```
/// use larder_testkit::{RedisServer, Reply};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = RedisServer::start().await?;
/// let mut client = server.client().await?;
/// assert_eq!(client.command(&["INCR", "visits"]).await?, Reply::Integer(1));
/// assert!(matches!(client.command(&["LPUSH", "visits", "x"]).await?, Reply::Error(_)));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

/// An answer of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No value.
    Nil,
    /// A whole number.
    Integer(i64),
    /// A status such as `OK`.
    Status(String),
    /// A value.
    Bytes(Vec<u8>),
    /// Several replies.
    Array(Vec<Reply>),
    /// A refusal, in the server's words.
    Error(String),
}

impl Reply {
    /// Returns the text of a status, a value or a refusal; `None` for the other kinds.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Status(text) | Self::Error(text) => Some(text.clone()),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }
}

impl Client {
    /// Connects to `host:port`, and sends the password if there is one.
    ///
    /// # Errors
    /// The connection's error, or the server's if it refuses the password.
    pub async fn connect(address: &str, password: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self(BufReader::new(stream));
        if let Some(password) = password
            && let Reply::Error(refused) = client.command(&["AUTH", password]).await?
        {
            return Err(io::Error::other(refused));
        }
        Ok(client)
    }

    /// Sends one command and reads its reply.
    ///
    /// # Errors
    /// The connection's error. A refusal is no error: it is [`Reply::Error`].
    pub async fn command(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes()).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let wrong = || io::Error::other(format!("not a reply: {line:?}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(wrong)?;
        let number = || rest.parse::<i64>().map_err(|_| wrong());
        Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(len) => {
                    let mut bytes = vec![0; len + 2];
                    self.0.read_exact(&mut bytes).await?;
                    bytes.truncate(len);
                    Reply::Bytes(bytes)
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(len) => {
                    let mut replies = Vec::new();
                    for _ in 0..len {
                        replies.push(Box::pin(self.reply()).await?);
                    }
                    Reply::Array(replies)
                }
            },
            _ => return Err(wrong()),
        })
    }
}
