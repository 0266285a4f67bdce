use super::*;

fn all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, SpdyError> {
    decoder.feed(bytes);
    let mut out = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        out.push(frame);
    }
    Ok(out)
}

#[test]
fn frames_survive_any_cut() {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    encoder.syn_stream(&mut bytes, 1, &[("streamtype", "error")]);
    encoder.syn_stream(&mut bytes, 3, &[("streamtype", "stdin"), ("x", "é")]);
    encoder.syn_reply(&mut bytes, 3);
    data(&mut bytes, 3, false, b"hello");
    data(&mut bytes, 3, true, b"");
    ping(&mut bytes, 7);
    reset(&mut bytes, 1, 5);
    go_away(&mut bytes, 3);
    let header = |k: &str, v: &str| (k.to_string(), v.to_string());
    for cut in 0..bytes.len() {
        let mut decoder = Decoder::default();
        let mut found = all(&mut decoder, &bytes[..cut]).unwrap();
        found.extend(all(&mut decoder, &bytes[cut..]).unwrap());
        let text: Vec<u8> = found
            .iter()
            .filter_map(|f| match f {
                Frame::Data { data, .. } => Some(data.to_vec()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(text, b"hello", "cut at {cut}");
        found.retain(|f| !matches!(f, Frame::Data { fin: false, .. }));
        let want = [
            Frame::SynStream { id: 1, fin: false, headers: vec![header("streamtype", "error")] },
            Frame::SynStream { id: 3, fin: false, headers: vec![header("streamtype", "stdin"), header("x", "é")] },
            Frame::SynReply { id: 3, fin: false, headers: vec![] },
            Frame::Data { id: 3, fin: true, data: Bytes::new() },
            Frame::Ping { id: 7 },
            Frame::Reset { id: 1 },
            Frame::GoAway,
        ];
        assert_eq!(found, want, "cut at {cut}");
    }
}

#[test]
fn long_data_comes_in_pieces_and_is_never_held_whole() {
    let mut decoder = Decoder::default();
    // A frame that says 16 MiB: what has come is passed on, nothing is waited for.
    let mut head = BytesMut::new();
    head.put_u32(5);
    head.put_u32(0x01ff_ffff);
    head.extend_from_slice(&[1; PIECE + 10]);
    let found = all(&mut decoder, &head).unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|f| matches!(f, Frame::Data { id: 5, fin: false, .. })));
}

#[test]
fn hostile_frames_are_refused() {
    let refused = |bytes: &[u8]| all(&mut Decoder::default(), bytes).unwrap_err();
    assert_eq!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]), SpdyError::Version(2));
    assert_eq!(refused(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]), SpdyError::TooLong(0xff_ffff));
    assert_eq!(refused(&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]), SpdyError::Malformed(1));
    let with_block = |block: &[u8]| {
        let mut bytes = BytesMut::new();
        control(&mut bytes, 1, 0, 10 + block.len());
        bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(block);
        bytes
    };
    assert_eq!(refused(&with_block(b"garbage")), SpdyError::Headers("they do not decompress"));
    // Another dictionary than the one that everybody has.
    assert!(matches!(refused(&with_block(&[0x78, 0xbb, 1, 2, 3, 4, 0])), SpdyError::Headers(_)));
    // A bomb: zeros that compress well.
    let mut bomb = Compress::new(Compression::best(), true);
    bomb.set_dictionary(dictionary()).unwrap();
    let mut block = Vec::with_capacity(100_000);
    bomb.compress_vec(&vec![0; 10 << 20], &mut block, FlushCompress::Sync).unwrap();
    assert_eq!(refused(&with_block(&block)), SpdyError::Headers("they are too long"));
    // A count of headers that is not true, and a name longer than the block.
    let mut lying = Compress::new(Compression::fast(), true);
    lying.set_dictionary(dictionary()).unwrap();
    let mut block = Vec::with_capacity(1000);
    lying.compress_vec(&[0xff; 8], &mut block, FlushCompress::Sync).unwrap();
    assert_eq!(refused(&with_block(&block)), SpdyError::Headers("cut off"));
}
