//! Which answer a request gets.

use super::api;
use super::exposition::{Format, Scrape};
use super::page;
use super::request::{Access, Request};
use super::states;
use super::store::Store;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// An answer.
pub struct Answer {
    pub status: u16,
    pub media: &'static str,
    pub body: Body,
    /// Headers that others do not have, each with its end of line.
    pub more: &'static str,
}

/// Its body.
pub enum Body {
    /// This.
    Bytes(Vec<u8>),
    /// What is made while it is read.
    Metrics(Format),
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    /// A sentence.
    pub fn text(status: u16, words: impl Into<String>) -> Self {
        let more = match status {
            401 => "WWW-Authenticate: Basic realm=\"collector\", charset=\"UTF-8\"\r\n",
            405 => "Allow: GET, HEAD\r\n",
            503 => "Retry-After: 1\r\n",
            _ => "",
        };
        Self { status, media: TEXT, body: Body::Bytes(words.into().into_bytes()), more }
    }

    /// Appends its head. Without a length it ends with its chunks, or with the connection.
    pub fn head(&self, length: Option<usize>, chunks: bool, keep: bool, out: &mut Vec<u8>) {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "Error",
        };
        let Self { status, media, more, .. } = self;
        // Writing to a vector never fails.
        let _ = write!(
            out,
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {media}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n{more}"
        );
        let _ = match length {
            Some(length) => write!(out, "Content-Length: {length}\r\n"),
            None if chunks => write!(out, "Transfer-Encoding: chunked\r\n"),
            None => Ok(()),
        };
        out.extend_from_slice(if keep { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    }
}

/// Bytes of answers that may wait for readers; who asks then is told to come again. Scrapes are made piece by piece
/// and do not count.
const PENDING: usize = 8 << 20;

/// Answers.
pub struct Router<'a> {
    pub access: &'a Access,
    pub store: &'a Mutex<Store>,
    /// Bytes that wait for readers.
    pub pending: usize,
}

impl Router<'_> {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of a scrape.
    pub fn fill(&self, scrape: &mut Scrape, out: &mut Vec<u8>) {
        scrape.fill(&self.store(), out);
    }

    /// The answer to a request.
    pub fn answer(&mut self, request: &Request) -> Answer {
        if let Err((status, words)) = self.access.check(request) {
            return Answer::text(status, words);
        }
        if self.pending > PENDING {
            return Answer::text(503, "too much waits to be read already\n");
        }
        let verdict =
            |(well, words): states::Verdict| Answer::text(if well { 200 } else { 503 }, words);
        let answer = match &*request.path {
            "/" => Answer {
                status: 200,
                media: "text/html; charset=utf-8",
                body: Body::Bytes(page::HTML.as_bytes().to_vec()),
                more: &page::POLICY,
            },
            "/metrics" => Answer::metrics(Format::negotiate(&request.accept)),
            "/healthz" => verdict(states::healthy(states::last().as_ref(), Instant::now())),
            "/readyz" => verdict(states::ready(states::last().as_ref(), Instant::now())),
            "/api/tables" => json(Ok(api::tables(&self.store(), states::last().as_ref()))),
            "/api/series" => json(api::series(&self.store(), &request.query)),
            _ => Answer::text(
                404,
                "there are /, /metrics, /healthz, /readyz, /api/tables and /api/series\n",
            ),
        };
        if let Body::Bytes(bytes) = &answer.body {
            self.pending += bytes.len();
        }
        answer
    }
}

fn json(result: Result<serde_json::Value, (u16, String)>) -> Answer {
    match result {
        Ok(json) => {
            let body = Body::Bytes(json.to_string().into_bytes());
            Answer { status: 200, media: "application/json", body, more: "" }
        }
        Err((status, words)) => Answer::text(status, words),
    }
}
