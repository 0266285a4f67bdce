use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::AsyncWriteExt;

use super::*;

const MOST: usize = 64 * 1024;

/// The first bytes of a client that wants to speak with `name`.
fn real(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut out = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut out).unwrap();
    out
}

/// Content with its length in N bytes before it.
fn sized<const N: usize>(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - N..], content].concat()
}

/// A hello with these extensions.
fn hello(extensions: Option<&[(u16, Vec<u8>)]>) -> Vec<u8> {
    let mut body = [&[3, 3][..], &[7; 32], &sized::<1>(&[9; 32]), &sized::<2>(&[0x13, 1]), &sized::<1>(&[0])].concat();
    if let Some(all) = extensions {
        let all = all.iter().flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &sized::<2>(content)].concat());
        body.extend(sized::<2>(&all.collect::<Vec<u8>>()));
    }
    [&[CLIENT_HELLO][..], &sized::<3>(&body)].concat()
}

/// The extension with names of these kinds.
fn names(all: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let all = all.iter().flat_map(|(kind, name)| [&[*kind][..], &sized::<2>(name)].concat());
    (0, sized::<2>(&all.collect::<Vec<u8>>()))
}

/// A message in records of at most so many bytes.
fn records(message: &[u8], each: usize) -> Vec<u8> {
    message.chunks(each).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &sized::<2>(part)].concat()).collect()
}

fn read(bytes: &[u8]) -> Said {
    Reading::default().read(bytes, MOST)
}

/// What is said when bytes come one by one, and after how many.
fn read_slowly(bytes: &[u8]) -> (Said, usize) {
    let mut reading = Reading::default();
    for n in 0..=bytes.len() {
        match reading.read(&bytes[..n], MOST) {
            Said::Unclear => {}
            said => return (said, n),
        }
    }
    (Said::Unclear, bytes.len())
}

fn named(name: &str) -> Said {
    Said::Hello(Some(name.into()))
}

#[test]
fn the_name_is_found() {
    let other = (16, sized::<2>(&sized::<1>(b"h2")));
    for (bytes, want) in [
        (real("shop.test"), named("shop.test")),
        (real("192.0.2.1"), Said::Hello(None)),
        (records(&hello(None), 100), Said::Hello(None)),
        (records(&hello(Some(&[])), 100), Said::Hello(None)),
        (records(&hello(Some(&[other.clone()])), 100), Said::Hello(None)),
        (records(&hello(Some(&[other.clone(), names(&[(0, b"A.test")])])), 100), named("A.test")),
        (records(&hello(Some(&[names(&[(1, b"x"), (0, b"a")]), other])), 100), named("a")),
    ] {
        assert_eq!(read(&bytes), want);
    }
}

#[test]
fn it_is_found_however_it_is_cut() {
    let message = hello(Some(&[names(&[(0, b"shop.test")])]));
    for each in [1, 2, 3, 7, 50, 1000] {
        let bytes = records(&message, each);
        assert_eq!(read_slowly(&bytes), (named("shop.test"), bytes.len()), "records of {each}");
        // What follows is nobody's business.
        assert_eq!(read(&[&bytes[..], b"rest"].concat()), named("shop.test"));
    }
    let bytes = real("shop.test");
    assert_eq!(read_slowly(&bytes), (named("shop.test"), bytes.len()));
}

#[test]
fn lies_are_nonsense() {
    let with = |extension: (u16, Vec<u8>)| records(&hello(Some(&[extension])), 1000);
    let long = [b'a'; MOST_OF_NAME + 1];
    let mut session = hello(None);
    session[38] = 255;
    let mut cut = hello(Some(&[names(&[(0, b"a")])]));
    let end = cut.len() - 1;
    cut[end - 1] = 2;
    for (what, bytes) in [
        ("no TLS", b"GET / HTTP/1.1\r\n".to_vec()),
        ("one byte is enough", b"G".to_vec()),
        ("a version that never was", vec![HANDSHAKE, 2]),
        ("an alert", UNRECOGNIZED_NAME.to_vec()),
        ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
        ("a record that is too long", vec![HANDSHAKE, 3, 1, 0x40, 1]),
        ("another message", records(&[2, 0, 0, 1, 0], 1000)),
        ("a message that is too long", records(&[CLIENT_HELLO, 1, 0, 1], 1000)),
        ("a message that is too short", records(&[CLIENT_HELLO, 0, 0, 2, 3, 3], 1000)),
        ("a session that is longer than all", records(&session, 1000)),
        ("a name that is longer than its list", records(&cut, 1000)),
        ("an empty name", with(names(&[(0, b"")]))),
        ("a name that is too long", with(names(&[(0, &long)]))),
        ("a name that is no ASCII", with(names(&[(0, "ä".as_bytes())]))),
        ("two names", with(names(&[(0, b"a"), (0, b"b")]))),
        ("two lists", records(&hello(Some(&[names(&[(0, b"a")]), names(&[(0, b"a")])])), 1000)),
        ("a list that is longer than its extension", with((0, vec![0, 9, 0, 0, 1, b'a']))),
        ("a list of half a name", with((0, sized::<2>(&[0, 0])))),
        ("an extension that is none", with((0, vec![1]))),
    ] {
        assert_eq!(read(&bytes), Said::Nonsense, "{what}");
    }
    assert_eq!(Reading::default().read(&real("shop.test"), 50), Said::Nonsense, "longer than it may be");
}

#[test]
fn whatever_comes_is_the_same_in_pieces() {
    let seeds = [records(&hello(Some(&[names(&[(0, b"shop.test")]), (16, vec![0])])), 30), real("a.test")];
    for seed in &seeds {
        for at in 0..seed.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff, seed[at].wrapping_add(1), seed[at].wrapping_sub(1)] {
                let mut bytes = seed.clone();
                bytes[at] = value;
                assert_eq!(read_slowly(&bytes).0, read(&bytes), "byte {at} is {value}");
            }
            assert_eq!(read(&seed[..at]), Said::Unclear, "the first {at}");
        }
    }
}

#[tokio::test]
async fn what_was_read_is_given_out_again() {
    let (near, mut far) = tokio::io::duplex(16);
    let sent = [real("shop.test"), b"more".to_vec()].concat();
    let writing = sent.clone();
    tokio::spawn(async move { far.write_all(&writing).await.unwrap() });
    let (mut io, name) = peek(near, MOST).await.unwrap();
    assert_eq!(name.as_deref(), Some("shop.test"));
    let mut got = Vec::new();
    io.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, sent);
}

#[tokio::test]
async fn a_hello_has_a_length_and_an_end() {
    let message = hello(Some(&[names(&[(0, b"shop.test")])]));
    let half = real("shop.test")[..60].to_vec();
    // Records of one byte, all but the last.
    let mut short = records(&message, 1);
    short.truncate(short.len() - 6);
    for (bytes, most, want) in [
        (half, MOST, io::ErrorKind::UnexpectedEof),
        (vec![], MOST, io::ErrorKind::UnexpectedEof),
        (short, message.len(), io::ErrorKind::InvalidData),
    ] {
        assert_eq!(peek(&bytes[..], most).await.err().map(|e| e.kind()), Some(want));
    }
    let (_, name) = peek(&b"GET / HTTP/1.1\r\n"[..], MOST).await.unwrap();
    assert_eq!(name, None);
}
