//! Blobs in an S3-compatible store, through the coordinator's own option and its API.

use sha2::{Digest as _, Sha256};
use watershed_commons::client::to_text;
use watershed_protocol::market::Upload;
use watershed_protocol::{Digest, Envelope};

use super::{MINER, Place, key, refusal, refused, spec};

#[tokio::test]
#[ignore = "needs a store at WATERSHED_BLOBS with AWS_* variables: scripts/interop s3"]
async fn blobs_are_in_a_store_and_come_back() {
    let bucket = std::env::var("WATERSHED_BLOBS").unwrap();
    // What a task may upload goes by the size of its model.
    let mut spec = spec();
    (spec.model.vocab, spec.model.hidden) = (1 << 16, 256);
    let place = Place::at(&spec, Some(&bucket)).await;
    let assignment = place.assigned().await;
    // Uploads of one part, of several, and of exactly one.
    for length in [1usize, 1000, 5 << 20, 12_345_678] {
        let body: Vec<u8> = (0..length).map(|i| (i * 31 + i / 256 + length) as u8).collect();
        let name = place.client.upload(assignment, body.clone(), &key(MINER)).await.unwrap();
        // Again changes nothing.
        place.client.upload(assignment, body.clone(), &key(MINER)).await.unwrap();
        assert!(place.client.download(name, length).await.unwrap() == body);
        assert!(place.shared.office.blobs.get(name).await.unwrap() == body);
        let path = format!("/v1/blobs/{name}");
        let middle = length / 2;
        for (range, part) in [
            ("bytes=0-0".to_owned(), &body[..1]),
            (format!("bytes={middle}-"), &body[middle..]),
            ("bytes=-1".to_owned(), &body[length - 1..]),
            (format!("bytes={middle}-{}", length + 1000), &body[middle..]),
        ] {
            let answer = place.get(&path, &[("range", &range)]).await;
            assert_eq!(answer.status().as_u16(), 206, "{length} {range}");
            assert!(answer.bytes().await.unwrap() == part, "{length} {range}");
        }
        let answer = place.get(&path, &[("range", &format!("bytes={length}-"))]).await;
        assert_eq!(refusal(answer).await, (416, "bad-range".into()));
        let partial = place.folder.path().join("copy.partial");
        std::fs::write(&partial, &body[..middle]).unwrap();
        place.client.download_to(name, &place.folder.path().join("copy"), length as u64).await.unwrap();
        assert!(std::fs::read(place.folder.path().join("copy")).unwrap() == body);
        std::fs::remove_file(place.folder.path().join("copy")).unwrap();
    }
    // What the coordinator keeps itself.
    let kept = place.shared.office.blobs.put(b"a checkpoint".to_vec()).await.unwrap();
    assert_eq!(place.client.download(kept, 100).await.unwrap(), b"a checkpoint");
    // Another content, of several parts: nothing of it is there.
    let body = vec![7; 11 << 20];
    let wanted = Digest(Sha256::digest(b"something else").into());
    let upload = Upload { assignment, sha256: wanted, bytes: body.len() as u64 };
    let envelope = to_text(&Envelope::sign(&upload, &key(MINER)).unwrap()).unwrap();
    let request =
        place.http.put(format!("{}/v1/blobs/{wanted}", place.base)).header("watershed-upload", envelope);
    assert_eq!(refusal(request.body(body).send().await.unwrap()).await, (400, "bad-upload".into()));
    assert_eq!(refused(place.client.download(wanted, 100).await), (404, "not-found".into()));
    assert!(!place.folder.path().join("blobs").exists());
}
