//! One upload over HTTP/2, with prior knowledge.

use std::{
    future::poll_fn,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::net::TcpStream;

use crate::load::pattern;

/// Creates an upload at `path` and sends `length` bytes in one PATCH; gives the time of the PATCH.
///
/// # Errors
/// When the connection breaks, or an answer is not the one that is due.
pub(crate) fn upload(address: SocketAddr, path: &str, length: u64) -> Result<Duration, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(async {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let (client, connection) =
            h2::client::handshake(stream).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        exchange(client, address, path, length).await
    })
}

async fn exchange(
    mut client: SendRequest<Bytes>,
    address: SocketAddr,
    path: &str,
    length: u64,
) -> Result<Duration, String> {
    let request = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("tus-resumable", "1.0.0")
    };
    let post = request("POST", path).header("upload-length", length);
    let created = send(&mut client, post, 0).await?;
    let location = created.headers().get("location").and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| format!("created with {}", created.status()))?;
    let patch = request("PATCH", location)
        .header("upload-offset", 0)
        .header("content-type", "application/offset+octet-stream");
    let began = Instant::now();
    let answer = send(&mut client, patch, length).await?;
    if answer.status() == 204 { Ok(began.elapsed()) } else { Err(answer.status().to_string()) }
}

/// Sends a request with a body of `length` bytes, as fast as the windows of the server allow.
async fn send(
    client: &mut SendRequest<Bytes>,
    request: http::request::Builder,
    length: u64,
) -> Result<Response<h2::RecvStream>, String> {
    let request = request.body(()).map_err(|e| e.to_string())?;
    poll_fn(|cx| client.poll_ready(cx)).await.map_err(|e| e.to_string())?;
    let (answer, mut body) =
        client.send_request(request, length == 0).map_err(|e| e.to_string())?;
    let pattern = Bytes::from(pattern());
    let mut left = length;
    while left > 0 {
        body.reserve_capacity(pattern.len());
        let room = poll_fn(|cx| body.poll_capacity(cx)).await;
        let room = room.ok_or("the stream was closed")?.map_err(|e| e.to_string())?;
        let some = room.min(pattern.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= some as u64;
        body.send_data(pattern.slice(..some), left == 0).map_err(|e| e.to_string())?;
    }
    answer.await.map_err(|e| e.to_string())
}
