//! SPDY frames of exec, attach and port-forward. The first byte of an input says in what pieces they come.

use bytes::BytesMut;
use copepod_node_streams::spdy::{self, Decoder, Encoder, Frame, SpdyError};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "spdy",
    run,
    seeds,
    words: &["\0\0\0\u{1}", "\u{1}\0\0\u{5}", "\0\u{3}\0\u{1}", "\0\0\0\0"],
    // What inflates keeps a window, and headers may be long.
    room: Room { base: 2 << 20, each: 4096 },
};

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<SpdyError>) {
    let (mut decoder, mut out) = (Decoder::default(), Vec::<Frame>::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_frame() {
                // Data comes in pieces of any length.
                Ok(Some(Frame::Data { id, fin, data })) => match out.last_mut() {
                    Some(Frame::Data { id: before, fin: over, data: had }) if *before == id && !*over => {
                        *had = [&had[..], &data[..]].concat().into();
                        *over = fin;
                    }
                    _ => out.push(Frame::Data { id, fin, data }),
                },
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(e) => return (out, Some(e)),
            }
        }
    }
    (out, None)
}

fn run(input: &[u8]) -> Outcome {
    let Some((first, stream)) = input.split_first() else { return Outcome::refused("nothing") };
    let (frames, error) = read([stream].into_iter());
    let (cut, same) = read(stream.chunks(usize::from(*first) + 1));
    // The end of data may be missing where it was cut.
    assert_eq!((cut.len(), &same), (frames.len(), &error), "it depends on how they are cut");
    assert_eq!(cut, frames, "it depends on how they are cut");
    let (mut encoder, mut again) = (Encoder::default(), BytesMut::new());
    let mut headers = 0;
    for frame in &frames {
        if let Frame::SynStream { id, headers: all, .. } = frame {
            let pairs: Vec<(&str, &str)> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            encoder.syn_stream(&mut again, *id, &pairs);
            headers += all.len();
        }
    }
    let opened = |frames: &[Frame]| {
        let of =
            |f: &Frame| if let Frame::SynStream { id, headers, .. } = f { Some((*id, headers.clone())) } else { None };
        frames.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(opened(&read([&again[..]].into_iter()).0), opened(&frames), "headers are not what they were");
    let outcome = error.map_or(Outcome::taken(headers), Outcome::refused);
    outcome.and(frames.len().min(8))
}

fn seeds() -> Vec<Seed> {
    let framed = |pieces: u8, write: &dyn Fn(&mut Encoder, &mut BytesMut)| {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        write(&mut encoder, &mut out);
        [&[pieces][..], &out[..]].concat()
    };
    let exec: &[(&str, &str)] = &[("streamtype", "stdin"), ("x", "")];
    vec![
        (
            "exec".into(),
            framed(255, &|e, out| {
                e.syn_stream(out, 1, exec);
                e.syn_stream(out, 3, &[("streamtype", "error")]);
                spdy::data(out, 1, true, b"input");
            }),
        ),
        (
            "reply".into(),
            framed(3, &|e, out| {
                e.syn_reply(out, 1);
                spdy::reset(out, 1, 5);
                spdy::ping(out, 7);
                spdy::go_away(out, 3);
            }),
        ),
        (
            "data".into(),
            framed(0, &|_, out| {
                spdy::data(out, 1, false, &[b'x'; 100]);
                spdy::data(out, 1, true, b"");
            }),
        ),
    ]
}
