//! Answers admission reviews: one live read of the replica, then `lifeboat_inject`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1};
use lifeboat_api::{Reason, SqliteReplica, names};
use lifeboat_inject::{Defaults, Refusal, Subject, inject};
use rustls::server::ResolvesServerCert;
use serde_json::Value;

use crate::controller::Shared;
use crate::error::words;

/// The path that the webhook configuration names.
const PATH: &str = "/inject";

/// How long the replica may take to be read. The API server waits five seconds for us.
const DEADLINE: Duration = Duration::from_secs(2);

/// The longest review that is read, in bytes. The API server takes objects of up to 3 MiB.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The longest name of a `SqliteReplica`, in bytes.
const NAME_BYTES_MAX: usize = 52;

/// What is served and with which certificate.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) certificate: Arc<dyn ResolvesServerCert>,
}

/// What an answer is made from.
#[derive(Clone)]
struct Injector {
    client: Client,
    defaults: Arc<Defaults>,
}

/// The webhook's server.
pub(crate) fn server(shared: &Shared, certificate: Arc<dyn ResolvesServerCert>) -> Server {
    let injector = Injector { client: shared.client.clone(), defaults: Arc::new(shared.defaults.clone()) };
    let router = Router::new()
        .route(PATH, post(answer))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(injector);
    Server { router, certificate }
}

async fn answer(State(injector): State<Injector>, body: Bytes) -> Response {
    let (request, pod) = match read(&body) {
        Ok(read) => read,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let response = respond(&injector, &request, pod).await;
    axum::Json(response.into_review()).into_response()
}

/// The request and the pod in it, raw.
///
/// The pod is taken out before the rest is read through types, which would drop the fields they do not know.
fn read(body: &[u8]) -> Result<(AdmissionRequest<DynamicObject>, Value), String> {
    let mut review: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    if review["apiVersion"] != META_API_VERSION_V1 {
        return Err(format!("not a review of {META_API_VERSION_V1}"));
    }
    let pod = review.pointer_mut("/request/object").map(Value::take).ok_or("the review has no object")?;
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_value(review).map_err(|error| format!("not a review: {error}"))?;
    let request = review.try_into().map_err(|_| "the review has no request")?;
    Ok((request, pod))
}

async fn respond(
    injector: &Injector,
    request: &AdmissionRequest<DynamicObject>,
    pod: Value,
) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let Some(name) = pod["metadata"]["labels"][names::LABEL_REPLICA].as_str() else { return response };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    if !is_name(name) {
        tracing::info!("refused a pod in {namespace}: its label cannot be the name of a SqliteReplica");
        return response.deny(not_a_name());
    }
    let result = match find(injector, namespace, name).await {
        Ok(replica) => inject(Subject::Pod(&pod), &replica, &injector.defaults),
        Err(refusal) => Err(vec![refusal]),
    };
    match result {
        Ok(injection) => {
            tracing::info!(
                "injected a pod of SqliteReplica {namespace}/{name} ({} operations)",
                injection.patch.0.len()
            );
            let mut response = response;
            if !injection.notices.is_empty() {
                response.warnings = Some(injection.notices);
            }
            let refused = response.clone();
            response.with_patch(injection.patch).unwrap_or_else(|error| refused.deny(error))
        }
        Err(refusals) => {
            let instruction = instruction(name, &refusals);
            tracing::info!("refused a pod in {namespace}: {instruction}");
            response.deny(instruction)
        }
    }
}

/// Reads the replica, live: a cache may not know yet what the user created a second ago.
async fn find(injector: &Injector, namespace: &str, name: &str) -> Result<SqliteReplica, Refusal> {
    let replicas: Api<SqliteReplica> = Api::namespaced(injector.client.clone(), namespace);
    let unreadable = |why: String| Refusal {
        reason: Reason::ReplicaUnreadable,
        message: format!(
            "SqliteReplica {namespace}/{name} could not be read ({why}); the pod is tried again"
        ),
    };
    match tokio::time::timeout(DEADLINE, replicas.get_opt(name)).await {
        Ok(Ok(Some(replica))) => Ok(replica),
        Ok(Ok(None)) => Err(Refusal {
            reason: Reason::ReplicaNotFound,
            message: format!(
                "there is no SqliteReplica {name} in namespace {namespace}; create it, or remove the label {} from the pod",
                names::LABEL_REPLICA
            ),
        }),
        Ok(Err(error)) => Err(unreadable(words(&error))),
        Err(_) => Err(unreadable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

/// Whether a SqliteReplica can be called so. A label's value is the user's word, and this one becomes part of a URL.
fn is_name(label: &str) -> bool {
    let is_inner = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.');
    let is_end = |c: Option<char>| c.is_some_and(|c| matches!(c, 'a'..='z' | '0'..='9'));
    label.len() <= NAME_BYTES_MAX
        && label.chars().all(is_inner)
        && is_end(label.chars().next())
        && is_end(label.chars().next_back())
}

/// The value itself is left out: it may be anything, of any length.
fn not_a_name() -> String {
    let message = format!(
        "the value of the pod's label {} is not a name that a SqliteReplica can have (lower-case letters, digits, hyphens \
         and dots, at most {NAME_BYTES_MAX} characters); write the name of the SqliteReplica there, or remove the label",
        names::LABEL_REPLICA
    );
    format!("Lifeboat cannot protect this pod. {}", Refusal { reason: Reason::ReplicaNotFound, message })
}

/// All that the author of the pod gets to see.
fn instruction(replica: &str, refusals: &[Refusal]) -> String {
    let reasons: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    format!("Lifeboat cannot protect this pod with SqliteReplica {replica}. {}", reasons.join(". "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "namespace": "prod",
                "operation": "CREATE",
                "userInfo": {},
                "object": { "metadata": { "futureMeta": 1 }, "spec": { "futureSpec": [null, 2.5] } },
                "oldObject": null,
                "futureField": true,
            },
        })
    }

    #[test]
    fn the_pod_stays_raw_when_a_review_is_read() {
        let review = review();
        let (request, pod) = read(review.to_string().as_bytes()).unwrap();
        assert_eq!((request.uid.as_str(), request.namespace.as_deref()), ("u-1", Some("prod")));
        assert_eq!(pod, review["request"]["object"]);
    }

    #[test]
    fn what_is_not_a_review_of_our_version_is_refused() {
        let beta = review().to_string().replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
        assert!(read(beta.as_bytes()).unwrap_err().contains("admission.k8s.io/v1"));
        let mut empty = review();
        empty["request"] = json!(null);
        for nonsense in
            ["", "{}", "[]", "nonsense", "{\"apiVersion\":\"admission.k8s.io/v1\"}", &empty.to_string()]
        {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn a_label_that_is_no_name_is_refused_before_anything_is_asked_for() {
        // Whoever asked for it would be told that this port does not answer.
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let defaults = Defaults {
            image: String::new(),
            image_pull_policy: None,
            version: String::new(),
            cluster: String::new(),
        };
        let injector = Injector { client: Client::try_from(config).unwrap(), defaults: Arc::new(defaults) };
        let (request, _) = read(review().to_string().as_bytes()).unwrap();
        for label in ["", "../../secrets/x", "a/b", "shop?x=1", "Shop", "-shop", "shop.", &"a".repeat(53)] {
            let pod = json!({ "metadata": { "labels": { "lifeboat.dev/replica": label } } });
            let response = respond(&injector, &request, pod).await;
            assert!(!response.allowed, "{label}");
            assert!(response.result.message.contains("ReplicaNotFound: the value of"), "{label}");
        }
        assert!(is_name("shop") && is_name("s") && is_name("my-shop.2") && is_name(&"a".repeat(52)));
    }

    #[test]
    fn an_instruction_lists_every_reason() {
        let refusal = |reason, message: &str| Refusal { reason, message: message.to_owned() };
        let refusals = [refusal(Reason::UserUnknown, "set a"), refusal(Reason::PortConflict, "use b")];
        let expected = "Lifeboat cannot protect this pod with SqliteReplica shop. UserUnknown: set a. PortConflict: use b";
        assert_eq!(instruction("shop", &refusals), expected);
    }
}
