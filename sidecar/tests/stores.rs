//! Buckets as they are outside: with servers that cannot do everything, encryption, authorities and keys of one's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::proxy::Proxy;
use support::{Place, Running, dump, lifeboat, s3::S3Server};

/// The program without the credentials of a server, with these variables instead.
fn run(args: &[&str], variables: &[(&str, &str)]) -> support::Ran {
    support::Ran::new(&lifeboat(args).envs(variables.iter().copied()).output().unwrap())
}

fn replicate(place: &Place, url: &str, options: &[&str], variables: &[(&str, &str)]) -> Running {
    let db = place.text("app.db");
    let args = [&["replicate", "--sync-interval", "50ms", &db, url][..], options].concat();
    let running = place.spawn(lifeboat(&args).envs(variables.iter().copied()));
    running.wait_for("following");
    running
}

/// moto wants to see one, and believes it.
const AUTHORIZATION: &str = "Authorization: AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1")];

#[test]
fn a_folder_is_checked_and_nothing_is_left_in_it_or_made_for_it() {
    let place = Place::new();
    let checked = place.run(&["store", "check", &place.url("not/there/yet")]);
    checked.says(0, &["can guarantee one writer", "create-race"]);
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0);
    let json = place.run(&["store", "check", "--json", &place.url("here")]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["canFence"], true);
    assert!(json["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{json}");
}

#[test]
fn a_bucket_is_checked_and_nothing_is_left_in_it() {
    let s3 = S3Server::start();
    let place = Place::new();
    place
        .run_with(&["store", "check", "s3://lifeboat/here"], Some(&s3))
        .says(0, &["can guarantee", "parts-once"]);
    let left: Vec<_> = walkdir::WalkDir::new(s3.file("here"))
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    place.run_with(&["store", "check", "s3://mistyped/here"], Some(&s3)).says(4, &["no bucket"]);
}

#[test]
fn a_server_that_ignores_conditions_is_found_out_and_what_that_means_is_said() {
    let s3 = S3Server::start_moto();
    for (hidden, words) in [
        ("if-none-match", ["FAIL  create-once", "overwrite each other's commits"]),
        ("if-match", ["FAIL  replace-stale", "both believe that they are the one writer"]),
    ] {
        let proxy = Proxy::start(s3.port());
        proxy.hide(hidden);
        let checked = run(&["store", "check", "s3://lifeboat/p", "--endpoint", &proxy.endpoint()], &KEYS);
        checked.says(4, &["cannot guarantee one writer", "use another server"]);
        checked.says(4, &words);
        let left = s3.say("GET", "/lifeboat?list-type=2", &[]);
        assert!(left.contains("<KeyCount>0</KeyCount>"), "{left}");
    }
}

/// A slot that is sent at once, and one in parts.
fn store_small_and_large(place: &Place, url: &str, options: &[&str], variables: &[(&str, &str)]) {
    let app = place.open("app.db");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x BLOB); INSERT INTO t VALUES (1)").unwrap();
    let running = replicate(place, url, options, variables);
    running.wait_for("stored txid");
    app.execute_batch("BEGIN").unwrap();
    for _ in 0..20 {
        app.execute("INSERT INTO t VALUES (randomblob(1048576))", []).unwrap();
    }
    app.execute_batch("COMMIT").unwrap();
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    let out = place.text("out.db");
    let restore = [&["restore", "-o", &out, url][..], options].concat();
    run(&restore, variables).says(0, &["restored"]);
    assert!(dump(&place.path("out.db")) == dump(&place.path("app.db")), "the copy differs");
}

#[test]
fn every_new_object_is_kept_as_the_user_wishes_and_no_other_request_says_so() {
    let s3 = S3Server::start_moto();
    let (proxy, place) = (Proxy::start(s3.port()), Place::new());
    let options = ["--endpoint", &proxy.endpoint(), "--sse", "aws:kms", "--sse-kms-key-id", "alias/mine"];
    let options = [&options[..], &["--storage-class", "STANDARD_IA"]].concat();
    store_small_and_large(&place, "s3://lifeboat/kept", &options, &KEYS);
    let heads = proxy.heads();
    let is_new = |head: &str| {
        let parts = head.starts_with("post ") && head.contains("?uploads");
        parts || (head.starts_with("put ") && !head.contains("partnumber="))
    };
    let encrypted =
        ["x-amz-server-side-encryption: aws:kms", "x-amz-server-side-encryption-aws-kms-key-id: alias/mine"];
    for head in &heads {
        for header in encrypted {
            assert_eq!(head.contains(header), is_new(head), "{header}: {head}");
        }
        let is_replaced = head.contains("\nif-match:");
        let is_of_the_class = head.contains("x-amz-storage-class: standard_ia");
        assert_eq!(is_of_the_class, is_new(head) && !is_replaced, "{head}");
    }
    assert!(heads.iter().any(|head| head.contains("?uploads")), "nothing was sent in parts");
    let slot = "/lifeboat/kept/0000/0000000000000001-0000000000000001.ltx";
    let kept = s3.say("HEAD", slot, &[AUTHORIZATION]).to_ascii_lowercase();
    assert!(kept.contains("aws:kms") && kept.contains("standard_ia"), "{kept}");
}

#[test]
fn a_session_token_goes_with_every_request() {
    let s3 = S3Server::start_moto();
    let (proxy, place) = (Proxy::start(s3.port()), Place::new());
    let variables = [&KEYS[..], &[("AWS_SESSION_TOKEN", "of-this-session")]].concat();
    store_small_and_large(&place, "s3://lifeboat/p", &["--endpoint", &proxy.endpoint()], &variables);
    let heads = proxy.heads();
    for part in ["list-type=2", "?uploads", "partnumber=", "uploadid=", "head.json", "0000/"] {
        assert!(heads.iter().any(|head| head.contains(part)), "no request about {part}");
    }
    let without = heads.iter().find(|head| !head.contains("x-amz-security-token: of-this-session"));
    assert_eq!(without, None);
}

#[test]
fn an_authority_of_ones_own_is_believed_by_flag_url_or_environment_and_a_stranger_is_not() {
    let place = Place::new();
    let [ca, certificate, key] = ["ca.pem", "certificate.pem", "key.pem"].map(|name| place.path(name));
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(&ca, params.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &authority_key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, server.signed_by(&server_key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(&key, server_key.serialize_pem()).unwrap();
    let s3 = S3Server::start_with_tls(&certificate, &key);
    let endpoint = format!("https://localhost:{}", s3.port());
    let ca = ca.display().to_string();
    let check = |url: &str, options: &[&str], variables: &[(&str, &str)]| {
        let args = [&["store", "check", url, "--endpoint", &endpoint][..], options].concat();
        run(&args, &[&s3.credentials()[..], variables].concat())
    };
    check("s3://lifeboat/p", &[], &[]).says(5, &["UnknownIssuer"]);
    check("s3://lifeboat/p", &["--ca-file", &ca], &[]).says(0, &["can guarantee"]);
    check("s3://lifeboat/p", &[], &[("AWS_CA_BUNDLE", &ca)]).says(0, &["can guarantee"]);
    check(&format!("s3://lifeboat/p?ca-file={ca}"), &[], &[]).says(0, &["can guarantee"]);
    check("s3://lifeboat/p", &["--ca-file", &place.text("key.pem")], &[])
        .says(2, &["key.pem", "no certificate"]);
}
