//! Uploads and downloads.

use sha2::{Digest as _, Sha256};
use watershed_commons::client::to_text;
use watershed_protocol::market::Upload;
use watershed_protocol::{AssignmentId, Digest, Envelope};

use super::{MINER, Place, VALIDATOR, key, refusal, refused};

fn hash(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

async fn put(place: &Place, name: Digest, upload: Option<(&Upload, u8)>, body: &[u8]) -> reqwest::Response {
    let mut request = place.http.put(format!("{}/v1/blobs/{name}", place.base)).body(body.to_vec());
    if let Some((upload, signer)) = upload {
        let envelope = Envelope::sign(upload, &key(signer)).unwrap();
        request = request.header("watershed-upload", to_text(&envelope).unwrap());
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn only_what_was_announced_by_a_miner_at_work_is_taken() {
    let place = Place::open().await;
    let assignment = place.assigned().await;
    let body = b"a submission".to_vec();
    let sha256 = hash(&body);
    let whole = Upload { assignment, sha256, bytes: body.len() as u64 };

    assert_eq!(refusal(put(&place, sha256, None, &body).await).await, (400, "no-upload".into()));
    let other = hash(b"other");
    let found = refusal(put(&place, other, Some((&whole, MINER)), &body).await).await;
    assert_eq!(found, (400, "no-upload".into()));
    let found = refusal(put(&place, sha256, Some((&whole, VALIDATOR)), &body).await).await;
    assert_eq!(found, (403, "not-allowed".into()));
    let foreign = Upload { assignment: AssignmentId::from_bytes([0; 32]), ..whole.clone() };
    let found = refusal(put(&place, sha256, Some((&foreign, MINER)), &body).await).await;
    assert_eq!(found, (403, "not-allowed".into()));
    let large = Upload { bytes: (32 << 20) + 1, ..whole.clone() };
    let found = refusal(put(&place, sha256, Some((&large, MINER)), &body).await).await;
    assert_eq!(found, (413, "too-long".into()));

    // Another content, too little and too much of it: nothing is left behind.
    for wrong in [b"a submissiom".to_vec(), b"a sub".to_vec(), b"a submission and more".to_vec()] {
        let found = refusal(put(&place, sha256, Some((&whole, MINER)), &wrong).await).await;
        assert_eq!(found, (400, "bad-upload".into()));
        assert_eq!(place.shared.office.blobs.length(sha256).await.unwrap(), None);
    }
    let bad = place.http.put(format!("{}/v1/blobs/{sha256}", place.base)).header("watershed-upload", "?");
    assert_eq!(refusal(bad.body(body.clone()).send().await.unwrap()).await, (400, "bad-envelope".into()));
    assert_eq!(put(&place, sha256, Some((&whole, MINER)), &body).await.status().as_u16(), 200);
    // Again changes nothing.
    assert_eq!(place.client.upload(assignment, body.clone(), &key(MINER)).await.unwrap(), sha256);
    assert_eq!(place.client.download(sha256, 100).await.unwrap(), body);
}

#[tokio::test]
async fn ranges_are_those_of_rfc_9110() {
    let place = Place::open().await;
    let body: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let name = place.shared.office.blobs.put(body.clone()).await.unwrap();
    let path = format!("/v1/blobs/{name}");
    let good: [(&str, std::ops::Range<usize>); 8] = [
        ("bytes=0-0", 0..1),
        ("bytes=10-19", 10..20),
        ("bytes=990-", 990..1000),
        ("bytes=999-", 999..1000),
        ("bytes=-1", 999..1000),
        ("bytes=-30", 970..1000),
        // More than there is.
        ("bytes=-5000", 0..1000),
        ("bytes=900-5000", 900..1000),
    ];
    for (range, part) in good {
        let answer = place.get(&path, &[("range", range)]).await;
        assert_eq!(answer.status().as_u16(), 206, "{range}");
        let said = format!("bytes {}-{}/1000", part.start, part.end - 1);
        assert_eq!(answer.headers()["content-range"].to_str().unwrap(), said, "{range}");
        assert_eq!(answer.content_length(), Some(part.len() as u64), "{range}");
        assert_eq!(answer.bytes().await.unwrap(), body[part], "{range}");
    }
    for range in ["bytes=1000-", "bytes=5000-", "bytes=1000-1001", "bytes=-0", "bytes=18446744073709551615-"]
    {
        let answer = place.get(&path, &[("range", range)]).await;
        assert_eq!(answer.headers()["content-range"].to_str().unwrap(), "bytes */1000", "{range}");
        assert_eq!(refusal(answer).await, (416, "bad-range".into()), "{range}");
    }
    // What is no range, or several, asks for everything.
    for range in ["bytes=9-3", "bytes=", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b"] {
        let answer = place.get(&path, &[("range", range)]).await;
        assert_eq!(answer.status().as_u16(), 200, "{range}");
        assert_eq!(answer.bytes().await.unwrap(), body, "{range}");
    }
}

#[tokio::test]
async fn a_blob_is_named_by_its_tag_and_never_changes() {
    let place = Place::open().await;
    let name = place.shared.office.blobs.put(b"something".to_vec()).await.unwrap();
    let path = format!("/v1/blobs/{name}");
    let answer = place.get(&path, &[]).await;
    assert_eq!(answer.status().as_u16(), 200);
    let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    for known in [tag.clone(), format!("\"other\", {tag}"), "*".to_owned(), format!("W/{tag}")] {
        let answer = place.get(&path, &[("if-none-match", &known)]).await;
        assert_eq!(answer.status().as_u16(), 304, "{known}");
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    let answer = place.get(&path, &[("if-none-match", "\"other\"")]).await;
    assert_eq!(answer.status().as_u16(), 200);
    let missing = hash(b"what nobody uploaded");
    assert_eq!(refused(place.client.download(missing, 10).await), (404, "not-found".into()));
    assert_eq!(refusal(place.get("/v1/blobs/nothing", &[]).await).await, (400, "bad-id".into()));
}
