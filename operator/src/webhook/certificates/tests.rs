use jiff::civil::date;

use super::super::verify::verifies;
use super::*;

const HOST: &str = "lifeboat-webhook.lifeboat.svc";

fn fresh(today: Date) -> Certificates {
    renew(None, HOST, today).unwrap().unwrap()
}

/// Today by the clock, because the verifier looks at it.
fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

#[test]
fn a_fresh_leaf_verifies_against_its_bundle_and_for_its_host_only() {
    let certificates = fresh(today());
    assert!(verifies(&certificates.leaf, &certificates.bundle, HOST));
    assert!(!verifies(&certificates.leaf, &certificates.bundle, "lifeboat-webhook.other.svc"));
    assert!(!verifies(&certificates.leaf, &fresh(today()).bundle, HOST));
    assert!(!verifies(&certificates.leaf, "", HOST));
}

#[test]
fn good_certificates_are_kept() {
    let start = date(2026, 11, 23);
    let certificates = fresh(start);
    assert_eq!(renew(Some(&certificates), HOST, start).unwrap(), None);
    assert_eq!(renew(Some(&certificates), HOST, start.saturating_add(19.days())).unwrap(), None);
}

#[test]
fn a_leaf_is_renewed_after_two_thirds_of_its_time_by_the_same_authority() {
    let start = date(2026, 11, 23);
    let certificates = fresh(start);
    let renewed = renew(Some(&certificates), HOST, start.saturating_add(20.days())).unwrap().unwrap();
    assert_eq!(renewed.bundle, certificates.bundle);
    assert_ne!(renewed.leaf, certificates.leaf);
}

#[test]
fn a_leaf_signed_later_verifies_against_the_first_bundle() {
    let start = today().saturating_sub(25.days());
    let certificates = fresh(start);
    let renewed = renew(Some(&certificates), HOST, today()).unwrap().unwrap();
    assert!(verifies(&renewed.leaf, &certificates.bundle, HOST));
}

#[test]
fn a_new_authority_keeps_the_old_one_in_the_bundle_so_that_both_leaves_verify() {
    let start = today().saturating_sub(250.days());
    let mut certificates = fresh(start);
    let old_leaf = renew(Some(&certificates), HOST, start.saturating_add(240.days())).unwrap().unwrap();
    certificates = old_leaf.clone();
    let renewed = renew(Some(&certificates), HOST, today()).unwrap().unwrap();
    assert_eq!(renewed.bundle.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(verifies(&renewed.leaf, &renewed.bundle, HOST));
    assert!(verifies(&old_leaf.leaf, &renewed.bundle, HOST));
    let next = renew(Some(&renewed), HOST, today().saturating_add(250.days())).unwrap().unwrap();
    assert_eq!(next.bundle.matches("BEGIN CERTIFICATE").count(), 2);
}
