//! The console for every user: signing in and out, one's sessions, personal tokens, the password; and that its token
//! opens nothing else, and nothing else opens it.

use counterfoil::{Grant, Registry};

use crate::support::console::{
    COOKIE, FORM_COOKIE, PLAIN_COOKIE, PLAIN_FORM_COOKIE, Visitor, csrf_of, form_key, plain_sign_in, sign_in,
    without_tls,
};
use crate::support::forge::{claims_of, jti_of, sid_of};
use crate::support::{ADMIN, Answer, Database, ISSUER, PASSWORD, Server, json, on_both};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";

/// Every page that a user without tokens can look at.
const PAGES: [&str; 5] = [
    "/console/sessions",
    "/console/sessions/end-others",
    "/console/personal",
    "/console/personal/new",
    "/console/password",
];

/// What stands behind a cookie's name and value.
fn attributes(set: &str) -> Vec<&str> {
    let mut attributes: Vec<&str> = set.split("; ").skip(1).filter(|text| !text.starts_with("Expires=")).collect();
    attributes.sort_unstable();
    attributes
}

/// To where one signs in, because the session is over.
#[track_caller]
fn is_signed_out(answer: &Answer) {
    let location = answer.see_other();
    assert!(location.starts_with("/console/sign-in"), "{location}");
    assert!(location.contains("done=expired"), "{location}");
    assert!(answer.cookie(COOKIE).is_empty(), "{answer:?}");
}

on_both! {
    async fn one_signs_in_looks_around_and_signs_out(server: Server) {
        let answer = server.get("/console").send().await;
        assert_eq!(answer.see_other(), "/console/sign-in");
        let answer = sign_in(&server, ADMIN, PASSWORD, &[]).await;
        assert_eq!(answer.see_other(), "/console");
        let set = answer.set_cookie(COOKIE);
        assert_eq!(attributes(set), ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Strict", "Secure"]);
        let claims = claims_of(&answer.cookie(COOKIE));
        assert_eq!(claims["aud"], format!("{ISSUER}/console"));
        assert_eq!((&claims["sid"], &claims["fresh"]), (&claims["jti"], &json!(true)));

        let visitor = Visitor::admin(&server).await;
        let answer = visitor.get(&server, "/console").send().await;
        assert_eq!(answer.see_other(), "/console/admin/overview");
        for path in PAGES {
            let page = visitor.page(&server, path).await;
            assert_eq!(page.matches("<h1").count(), 1, "{path}: {page}");
            assert_eq!(csrf_of(&page), visitor.csrf);
            for part in ["<html lang=\"en\">", "class=\"skip\" href=\"#main\"", "<main id=\"main\"", "<nav class=\"pages\""] {
                assert!(page.contains(part), "{part} in {path}");
            }
            // Nothing stands in the page that the policy would refuse, and no token.
            for part in ["<style", " style=", " onclick=", "<script>", &visitor.token] {
                assert!(!page.contains(part), "{part} in {path}");
            }
            assert!(!page.contains(visitor.token.split('.').nth(1).unwrap()), "{path}");
        }
        // Who is signed in needs no form for it.
        assert_eq!(visitor.get(&server, "/console/sign-in").send().await.see_other(), "/console");

        let answer = visitor.post(&server, "/console/sign-out", &[]).await;
        assert_eq!(answer.see_other(), "/console/sign-in?done=signed-out");
        assert!(answer.cookie(COOKIE).is_empty());
        let removal = attributes(answer.set_cookie(COOKIE));
        for attribute in ["Max-Age=0", "Path=/", "Secure"] {
            assert!(removal.contains(&attribute), "{removal:?}");
        }
        is_signed_out(&visitor.get(&server, "/console/sessions").send().await);
        let page = server.get("/console/sign-in?done=signed-out").send().await.html(200);
        assert!(page.contains("You have signed out."), "{page}");
        let page = server.get("/console/sign-in?done=Call+0900+123").send().await.html(200);
        assert!(!page.contains("0900"), "{page}");
    }

    async fn a_wrong_password_says_so_in_words(server: Server) {
        for (username, password) in [(ADMIN, "wrong"), ("nobody", PASSWORD), (HOSTILE, PASSWORD), ("", "")] {
            let answer = sign_in(&server, username, password, &[]).await;
            let page = answer.html(422);
            assert!(page.contains("role=\"alert\""), "{page}");
            assert!(!page.contains("<script>alert"), "{page}");
            assert!(answer.header_values("Set-Cookie").iter().all(|set| !set.starts_with(&format!("{COOKIE}="))));
            // The form can be sent again as it is.
            assert!(!csrf_of(&page).is_empty(), "{page}");
            assert!(!page.contains(PASSWORD), "{page}");
        }
    }

    async fn guesses_are_limited_as_they_are_at_the_log_in(database: Database) {
        let server = Server::start(database, |settings| settings.set("login", json!({ "limit": 2 }))).await;
        server.post("/login").json(&json!({ "username": ADMIN, "password": "wrong" })).send().await.error(401, "bad_credentials");
        sign_in(&server, ADMIN, "wrong", &[]).await.html(422);
        let answer = sign_in(&server, ADMIN, PASSWORD, &[]).await;
        let page = answer.html(429);
        assert!(page.contains("Wait ") && page.contains("minutes"), "{page}");
        assert!(answer.header("Retry-After").unwrap().parse::<u32>().unwrap() > 60);
        server.advance(15 * 60);
        Visitor::admin(&server).await;
    }

    async fn nobody_is_made_to_sign_in_by_another_page(server: Server) {
        let key = form_key(&server).await;
        let fields = |csrf| [("csrf", csrf), ("username", ADMIN), ("password", PASSWORD)];
        let call = |cookie: &str| server.post("/console/sign-in").header("Cookie", &format!("{FORM_COOKIE}={cookie}"));
        let other = form_key(&server).await;
        for (cookie, csrf) in [(key.as_str(), ""), (&key, &other), ("", ""), ("x", "x"), ("", &key)] {
            call(cookie).form(&fields(csrf)).send().await.html(403);
        }
        let without = call(&key).form(&fields(&key)[1..]).send().await;
        without.html(403);
        let two = format!("{key}; {FORM_COOKIE}={other}");
        call(&two).form(&fields(&key)).send().await.html(400);
        for (name, value) in [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
        ] {
            call(&key).header(name, value).form(&fields(&key)).send().await.html(403);
        }
        let both = call(&key).header("Sec-Fetch-Site", "same-origin").header("Sec-Fetch-Site", "cross-site");
        both.form(&fields(&key)).send().await.html(403);
        call(&key).json(&json!({ "csrf": key, "username": ADMIN, "password": PASSWORD })).send().await.html(422);
        let own = call(&key).header("Origin", &server.url()).form(&fields(&key)).send().await;
        assert_eq!(own.see_other(), "/console");
    }

    async fn one_goes_on_to_where_one_wanted_to_be_and_nowhere_else(server: Server) {
        let wanted = "/console/personal?a=b%20c";
        let answer = server.get(wanted).send().await;
        let location = answer.see_other();
        assert_eq!(location, "/console/sign-in?next=%2Fconsole%2Fpersonal%3Fa%3Db%2520c");
        let page = server.get(location).send().await.html(200);
        assert!(page.contains("name=\"next\" value=\"/console/personal?a=b%20c\""), "{page}");
        assert_eq!(sign_in(&server, ADMIN, PASSWORD, &[("next", wanted)]).await.see_other(), wanted);
        for elsewhere in ["https://evil.example", "//evil.example", "/console/../login", "/login", "/console\\evil", ""] {
            assert_eq!(sign_in(&server, ADMIN, PASSWORD, &[("next", elsewhere)]).await.see_other(), "/console");
        }
        // What was sent as a form is not gone on to, where there is no page of that address.
        let answer = server.post("/console/personal/x/unrevoke").form(&[]).send().await;
        assert_eq!(answer.see_other(), "/console/sign-in");
    }

    async fn a_form_is_good_with_its_own_value_from_its_own_page(server: Server) {
        let (visitor, other) = (Visitor::admin(&server).await, Visitor::admin(&server).await);
        let sid = sid_of(&other.token);
        let forms = [
            "/console/sign-out".to_owned(),
            format!("/console/sessions/{sid}/end"),
            "/console/sessions/end-others".to_owned(),
            format!("/console/tokens/{sid}/label"),
            "/console/personal/new".to_owned(),
            format!("/console/personal/{sid}/revoke"),
            format!("/console/personal/{sid}/unrevoke"),
            "/console/password".to_owned(),
        ];
        for path in &forms {
            for csrf in ["", "x", &other.csrf] {
                visitor.call(&server, path).form(&[("csrf", csrf)]).send().await.html(403);
            }
            visitor.call(&server, path).form(&[("label", "x")]).send().await.html(403);
            visitor.call(&server, path).json(&json!({ "csrf": visitor.csrf })).send().await.html(422);
            for site in ["cross-site", "same-site"] {
                let call = server.post(path).header("Cookie", &visitor.cookie()).header("Sec-Fetch-Site", site);
                call.form(&[("csrf", &visitor.csrf)]).send().await.html(403);
            }
            for origin in ["null", "https://evil.example", "https://issuer.example.evil.example"] {
                let call = server.post(path).header("Cookie", &visitor.cookie()).header("Origin", origin);
                call.form(&[("csrf", &visitor.csrf)]).send().await.html(403);
            }
            let large = "x".repeat(100_000);
            let answer = visitor.post(&server, path, &[("label", &large)]).await;
            answer.html(413);
            // And without the cookie nobody is there.
            server.post(path).form(&[("csrf", &visitor.csrf)]).send().await.see_other();
        }
        // Nothing of that was done.
        for visitor in [&visitor, &other] {
            visitor.page(&server, "/console/sessions").await;
        }
    }

    async fn its_token_opens_nothing_but_the_console(database: Database) {
        for check in ["all", "refresh"] {
            let server = Server::start(database, |settings| {
                settings.set("locations", json!(["header", "cookie", "query", "json"])).set("check", check)
            })
            .await;
            let visitor = Visitor::admin(&server).await;
            visitor.page(&server, "/console/sessions").await;
            // Asked twice: from the database, and from memory.
            for _ in 0..2 {
                is_refused_everywhere(&server, &visitor).await;
            }
            visitor.page(&server, "/console/sessions").await;
        }
    }

    async fn no_other_token_opens_the_console(database: Database) {
        for check in ["all", "refresh"] {
            let server = Server::start(database, |settings| settings.set("check", check)).await;
            let visitor = Visitor::admin(&server).await;
            let pair = server.login().await;
            let personal = server.post("/auth/tokens").bearer(&pair.access).json(&json!({ "label": "x" })).send().await;
            let personal = personal.ok(201)["access_token"].as_str().unwrap().to_owned();
            let mut claims = server.claims();
            claims["aud"] = json!(format!("{ISSUER}/console"));
            claims["csrf"] = json!("x");
            let forged = server.key.sign(&server.key.header(), &claims);
            claims["sid"] = claims["jti"].clone();
            let own_session = server.key.sign(&server.key.header(), &claims);
            let mut copied = claims_of(&visitor.token);
            copied["exp"] = json!(copied["exp"].as_i64().unwrap() + 1_000_000);
            let longer = server.key.sign(&server.key.header(), &copied);
            copied["aud"] = json!([ISSUER, format!("{ISSUER}/console")]);
            let both = server.key.sign(&server.key.header(), &copied);
            for token in [&pair.access, &pair.refresh, &personal, &forged, &own_session, &longer, &both, "x", "a.b.c"] {
                let answer = server.get("/console/sessions").header("Cookie", &format!("{COOKIE}={token}")).send().await;
                is_signed_out(&answer);
            }
            // Its own token is good in its own cookie alone, and a cookie that another host can set is not that one.
            for call in [
                server.get("/console/sessions").bearer(&visitor.token),
                server.get("/console/sessions").header("Cookie", &format!("access_token_cookie={}", visitor.token)),
                server.get(&format!("/console/sessions?jwt={}", visitor.token)),
                server.get("/console/sessions").header("Cookie", &format!("{PLAIN_COOKIE}={}", visitor.token)),
                server.get("/console/sessions").header("Cookie", &format!("__%48ost-{PLAIN_COOKIE}={}", visitor.token)),
                server.get("/console/sessions").header("Cookie", &format!("__host-{PLAIN_COOKIE}={}", visitor.token)),
                server.get("/console/sessions").header("Cookie", &format!("\u{a0}{COOKIE}={}", visitor.token)),
            ] {
                assert!(call.send().await.see_other().starts_with("/console/sign-in"));
            }
            visitor.page(&server, "/console/sessions").await;
            // Nobody can ask for a token of this kind.
            let audience = format!("{ISSUER}/console");
            let grant = || Grant::to(ADMIN.parse().unwrap()).audience([ISSUER, &audience]).unwrap();
            assert_eq!(server.registry.issue(grant()).await.unwrap_err().field(), Some("audience"));
            let client = server.add_client("app", &["--scope", "tokens:issue", "--audience", &audience]);
            let call = server.post("/tokens").basic(&client).json(&json!({ "subject": "u", "audience": audience }));
            call.send().await.error(422, "invalid_request");
        }
    }

    async fn without_tls_its_cookies_are_for_its_path(database: Database) {
        let server = without_tls(database).await;
        let answer = server.get("/console/sign-in").send().await;
        assert_eq!(attributes(answer.set_cookie(PLAIN_FORM_COOKIE)), ["HttpOnly", "Path=/console", "SameSite=Strict"]);
        let answer = plain_sign_in(&server, ADMIN).await;
        let set = attributes(answer.set_cookie(PLAIN_COOKIE));
        assert_eq!(set, ["HttpOnly", "Max-Age=43200", "Path=/console", "SameSite=Strict"]);
        let token = answer.cookie(PLAIN_COOKIE);
        let sent = async |name: &str| {
            server.get("/console/sessions").header("Cookie", &format!("{name}={token}")).send().await.status
        };
        assert_eq!((sent(PLAIN_COOKIE).await, sent(COOKIE).await), (200, 303));
    }

    async fn of_two_cookies_none_is_believed_nor_taken_away(database: Database) {
        let server = without_tls(database).await;
        server.add_user("bob", PASSWORD, &[]);
        let own = plain_sign_in(&server, ADMIN).await.cookie(PLAIN_COOKIE);
        let planted = plain_sign_in(&server, "bob").await.cookie(PLAIN_COOKIE);
        let key = server.get("/console/sign-in").send().await.cookie(PLAIN_FORM_COOKIE);
        let csrf = claims_of(&own)["csrf"].as_str().unwrap().to_owned();
        let said_in_words = |answer: Answer| {
            let page = answer.html(400);
            assert!(page.contains("There are two cookies where one belongs"), "{page}");
            // Were the one that can be removed from here removed, the other one would be left alone.
            assert_eq!(answer.header_values("Set-Cookie"), [""; 0]);
        };
        // Browsers send the one of the longer path first, and of the same path the older one.
        for (first, second) in [(&own, &planted), (&planted, &own), (&own, &"x".to_owned())] {
            let cookies = format!("{PLAIN_COOKIE}={first}; {PLAIN_FORM_COOKIE}={key}; {PLAIN_COOKIE}={second}");
            for path in ["/console", "/console/sessions", "/console/admin/users", "/console/sign-in", "/console/sign-in?next=/console"] {
                said_in_words(server.get(path).header("Cookie", &cookies).send().await);
            }
            let form = [("csrf", key.as_str()), ("username", ADMIN), ("password", PASSWORD)];
            said_in_words(server.post("/console/sign-in").header("Cookie", &cookies).form(&form).send().await);
            for path in ["/console/sign-out", "/console/sessions/end-others"] {
                let form = [("csrf", csrf.as_str())];
                said_in_words(server.post(path).header("Cookie", &cookies).form(&form).send().await);
            }
        }
        let other = server.get("/console/sign-in").send().await.cookie(PLAIN_FORM_COOKIE);
        let cookies = format!("{PLAIN_FORM_COOKIE}={key}; {PLAIN_FORM_COOKIE}={other}");
        said_in_words(server.get("/console/sign-in").header("Cookie", &cookies).send().await);
        // Once the other one is gone, all is as it was.
        let call = server.get("/console/sessions").header("Cookie", &format!("{PLAIN_COOKIE}={own}"));
        let page = call.send().await.html(200);
        assert_eq!(page.matches("<li class=\"card\">").count(), 1, "{page}");
    }

    async fn a_personal_token_is_shown_once(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let page = visitor.page(&server, "/console/personal").await;
        assert!(page.contains("You have no personal tokens yet."), "{page}");
        let last = (server.registry.now() + chrono::TimeDelta::days(10)).date_naive();
        let fields = [("label", HOSTILE), ("scope", "registry:admin"), ("expires", &last.to_string())];
        let page = visitor.post(&server, "/console/personal/new", &fields).await.html(200);
        let (_, rest) = page.split_once("readonly spellcheck=\"false\" autocomplete=\"off\">").unwrap();
        let token = rest.split('<').next().unwrap().to_owned();
        assert_eq!(page.matches(&token).count(), 1, "{page}");
        assert!(!page.contains("<script>alert"), "{page}");
        let claims = claims_of(&token);
        assert_eq!((&claims["aud"], &claims["scope"]), (&json!(ISSUER), &json!("registry:admin")));
        assert_eq!((&claims["fresh"], claims.get("csrf")), (&json!(false), None));
        let end = last.succ_opt().unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp();
        assert_eq!(claims["exp"], end);
        server.accepts(&token).await;
        let answer = server.get("/console/sessions").header("Cookie", &format!("{COOKIE}={token}")).send().await;
        is_signed_out(&answer);

        let jti = jti_of(&token);
        let revoke = format!("/console/personal/{jti}/revoke");
        let label = format!("/console/tokens/{jti}/label");
        for path in PAGES.iter().copied().chain([revoke.as_str(), &label]) {
            let page = visitor.page(&server, path).await;
            assert!(!page.contains(&token) && !page.contains("<script>alert"), "{path}: {page}");
        }
        assert!(visitor.page(&server, "/console/personal").await.contains("&#60;script&#62;alert(1)"));
        // It is no place where one is signed in.
        assert_eq!(visitor.page(&server, "/console/sessions").await.matches("<li class=\"card\">").count(), 1);

        assert_eq!(visitor.post(&server, &revoke, &[]).await.see_other(), "/console/personal?done=token-revoked");
        server.refuses(&token, "token_revoked").await;
        assert!(visitor.page(&server, "/console/personal?done=token-revoked").await.contains("Revoked"));
        let unrevoke = format!("/console/personal/{jti}/unrevoke");
        assert_eq!(visitor.post(&server, &unrevoke, &[]).await.see_other(), "/console/personal?done=token-unrevoked");
        server.accepts(&token).await;
        let answer = visitor.get(&server, &unrevoke).send().await;
        answer.html(405);
        assert_eq!(answer.header("Allow"), Some("POST"));
    }

    async fn a_personal_token_stays_within_what_one_may(server: Server) {
        server.add_user("ada", PASSWORD, &["notes:read", "notes:write"]);
        let visitor = Visitor::of(&server, "ada", PASSWORD).await;
        let page = visitor.page(&server, "/console/personal/new").await;
        assert!(page.contains("value=\"notes:read\"") && !page.contains("registry:admin"), "{page}");
        let today = server.registry.now().date_naive();
        let day = |days: i64| (today + chrono::TimeDelta::days(days)).to_string();
        let new = async |label: &str, scopes: &[&str], expires: &str| {
            let mut fields = vec![("label", label), ("expires", expires)];
            fields.extend(scopes.iter().map(|scope| ("scope", *scope)));
            visitor.post(&server, "/console/personal/new", &fields).await
        };
        for (label, scopes, expires, id) in [
            ("", &["notes:read"][..], day(1), "label-error"),
            (&"x".repeat(101), &[], day(1), "label-error"),
            ("x", &["registry:admin"], day(1), "scope-error"),
            ("x", &["notes:read", "no scope\""], day(1), "scope-error"),
            ("x", &[], day(-1), "expires-error"),
            ("x", &[], day(366), "expires-error"),
            ("x", &[], "soon".to_owned(), "expires-error"),
            ("x", &[], String::new(), "expires-error"),
            ("x", &[], "+262142-12-31".to_owned(), "expires-error"),
        ] {
            let page = new(label, scopes, &expires).await.html(422);
            assert!(page.contains(&format!("id=\"{id}\"")), "{label} {scopes:?} {expires}: {page}");
        }
        for expires in [day(0), day(365)] {
            let page = new("x", &["notes:read"], &expires).await.html(200);
            assert!(page.contains("Your new token"), "{page}");
        }
        // A scope that was taken away since is none of one's own any more.
        server.command_ok(&["user", "set", "ada", "--scope", "notes:read"], "");
        let answer = visitor.get(&server, "/console/personal/new").send().await;
        is_signed_out(&answer);
    }

    async fn a_session_says_when_it_was_seen_first_and_last(server: Server) {
        server.add_user("ada", PASSWORD, &[]);
        let time = || server.registry.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let pair = server.login_as("ada", PASSWORD).await;
        let first = time();
        server.advance(3_600);
        server.post("/refresh").bearer(&pair.refresh).send().await.ok(200);
        let last = time();
        server.advance(60);
        let visitor = Visitor::of(&server, "ada", PASSWORD).await;
        let page = visitor.page(&server, "/console/sessions").await;
        let card = page.split("<li class=\"card\">").find(|card| card.contains(&sid_of(&pair.access))).unwrap();
        for (name, at) in [("First seen", first), ("Last seen", last)] {
            assert!(card.contains(&format!("<dt>{name}</dt><dd><time datetime=\"{at}\">")), "{name}: {at}: {card}");
        }
    }

    async fn sessions_come_in_pages_with_the_current_one_first(server: Server) {
        server.add_user("ada", PASSWORD, &[]);
        let visitor = Visitor::of(&server, "ada", PASSWORD).await;
        server.advance(1);
        let mut begun = Vec::new();
        for _ in 0..102 {
            begun.push(sid_of(&server.issue("ada", "").await.access));
        }
        let cards = |page: &str| page.matches("<li class=\"card\">").count();
        let first = visitor.page(&server, "/console/sessions").await;
        assert_eq!((cards(&first), first.matches("This session</span>").count()), (101, 1), "{first}");
        let card = first.split("<li class=\"card\">").nth(1).unwrap();
        assert!(card.contains("This session</span>") && card.contains(&sid_of(&visitor.token)), "{card}");
        let (_, rest) = first.split_once("rel=\"next\" href=\"").expect("a next page");
        let next = visitor.page(&server, rest.split('"').next().unwrap()).await;
        assert_eq!((cards(&next), next.matches("This session</span>").count()), (2, 0), "{next}");
        assert!(!next.contains("rel=\"next\"") && next.contains("End all others"), "{next}");
        assert!(begun.iter().all(|sid| first.contains(sid) != next.contains(sid)));
        let page = visitor.page(&server, "/console/sessions/end-others").await;
        assert!(page.contains("102 other sessions will end."), "{page}");
    }

    async fn what_one_did_to_oneself_can_be_found_again(server: Server) {
        server.add_user("ada", PASSWORD, &[]);
        let sid = sid_of(&server.login_as("ada", PASSWORD).await.access);
        let visitor = Visitor::of(&server, "ada", PASSWORD).await;
        visitor.post(&server, &format!("/console/sessions/{sid}/end"), &[]).await.see_other();
        let admin = server.login().await;
        let events = server.get("/admin/audit?action=session.ended").bearer(&admin.access).send().await.ok(200);
        assert_eq!((&events[0]["actor"], &events[0]["target"]), (&json!({ "kind": "subject", "name": "ada" }), &json!(sid)));
        assert_eq!((&events[0]["ip"], &events[0]["subject"]), (&json!("127.0.0.1"), &json!("ada")), "{events}");
    }

    async fn what_fails_is_said_in_words(server: Server) {
        let visitor = Visitor::admin(&server).await;
        server.sql("alter table cf_purge_runs rename to cf_elsewhere").await;
        let page = visitor.get(&server, "/console/admin/purge").send().await.html(503);
        assert!(page.contains("The registry can&#39;t be asked just now") && !page.contains("cf_purge_runs"), "{page}");
    }

    async fn a_personal_token_of_the_command_line_is_one(server: Server) {
        server.add_user("ada", PASSWORD, &["notes:read"]);
        let issue = ["token", "issue", "--subject", "ada", "--scope", "notes:read", "--personal", "--label", "nightly", "--json"];
        let issued: serde_json::Value = serde_json::from_str(&server.command_ok(&issue, "")).unwrap();
        let token = issued["access_token"].as_str().unwrap();
        // The command line reads the machine's clock, and this server's stands still.
        server.advance(60);
        server.accepts(token).await;
        let claims = claims_of(token);
        assert_eq!((&claims["fresh"], claims["exp"].as_i64()), (&json!(false), claims["iat"].as_i64().map(|iat| iat + 365 * 86_400)));
        let visitor = Visitor::of(&server, "ada", PASSWORD).await;
        assert!(visitor.page(&server, "/console/personal").await.contains("nightly"));
        visitor.post(&server, &format!("/console/personal/{}/revoke", jti_of(token)), &[]).await.see_other();
        server.refuses(token, "token_revoked").await;
        server.command(&["token", "issue", "--subject", "ada", "--personal"], "").code(2);
    }

    async fn one_sees_where_one_is_signed_in_and_ends_it(server: Server) {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0";
        let login = json!({ "username": ADMIN, "password": PASSWORD });
        let laptop = server.post("/login").header("User-Agent", agent).json(&login).send().await.ok(200);
        let login = json!({ "username": ADMIN, "password": PASSWORD, "label": HOSTILE });
        let phone = server.post("/login").header("User-Agent", HOSTILE).json(&login).send().await.ok(200);
        let access = |body: &serde_json::Value| body["access_token"].as_str().unwrap().to_owned();
        let (laptop, phone) = (access(&laptop), access(&phone));
        let visitor = Visitor::admin(&server).await;
        let page = visitor.page(&server, "/console/sessions").await;
        assert_eq!(page.matches("<li class=\"card\">").count(), 3, "{page}");
        assert!(page.contains("Firefox on Linux") && page.contains("127.0.0.1"), "{page}");
        assert_eq!(page.matches("This session</span>").count(), 1, "{page}");
        assert!(page.find("This session</span>") < page.find("Firefox on Linux"), "the current one first: {page}");
        assert!(page.contains("&#60;script&#62;") && !page.contains("<script>alert"), "{page}");

        let here = format!("/console/sessions/{}", sid_of(&phone));
        let page = visitor.page(&server, &here).await;
        assert!(page.contains("Access token") && page.contains("Refresh token"), "{page}");
        assert!(page.contains(&jti_of(&phone)) && !page.contains("<script>alert"), "{page}");

        // The label of a token is that of its session.
        let path = format!("/console/tokens/{}/label", jti_of(&phone));
        assert!(visitor.page(&server, &path).await.contains("&#60;script&#62;"));
        let long = "x".repeat(101);
        assert!(visitor.post(&server, &path, &[("label", &long)]).await.html(422).contains("id=\"label-error\""));
        let answer = visitor.post(&server, &path, &[("label", " Ada's phone ")]).await;
        assert_eq!(answer.see_other(), format!("{here}?done=label-changed"));
        assert!(visitor.page(&server, "/console/sessions").await.contains("Ada&#39;s phone"));
        let listed = server.get("/auth/sessions").bearer(&laptop).send().await.ok(200);
        let labels: Vec<&serde_json::Value> = listed.as_array().unwrap().iter().map(|one| &one["label"]).collect();
        assert!(labels.contains(&&json!("Ada's phone")), "{listed}");
        visitor.post(&server, &path, &[("label", "")]).await.see_other();
        assert!(!visitor.page(&server, "/console/sessions").await.contains("Ada&#39;s phone"));

        visitor.page(&server, &format!("{here}/end")).await;
        server.accepts(&phone).await;
        let answer = visitor.post(&server, &format!("{here}/end"), &[]).await;
        assert_eq!(answer.see_other(), "/console/sessions?done=session-ended");
        server.refuses(&phone, "token_revoked").await;
        visitor.get(&server, &here).send().await.html(404);
        server.accepts(&laptop).await;

        let page = visitor.page(&server, "/console/sessions/end-others").await;
        assert!(page.contains("One other session will end."), "{page}");
        let answer = visitor.post(&server, "/console/sessions/end-others", &[]).await;
        assert_eq!(answer.see_other(), "/console/sessions?done=others-ended");
        server.refuses(&laptop, "token_revoked").await;
        let end = format!("/console/sessions/{}/end", sid_of(&visitor.token));
        assert!(visitor.page(&server, &end).await.contains("Sign out?"));
        let answer = visitor.post(&server, &end, &[]).await;
        assert_eq!(answer.see_other(), "/console/sign-in?done=signed-out");
        is_signed_out(&visitor.get(&server, "/console").send().await);
    }

    async fn what_outlives_a_session_is_said(database: Database) {
        for check in ["all", "refresh"] {
            let server = Server::start(database, |settings| settings.set("check", check)).await;
            let (visitor, pair) = (Visitor::admin(&server).await, server.login().await);
            let end = format!("/console/sessions/{}/end", sid_of(&pair.access));
            for path in [end.as_str(), "/console/sessions/end-others"] {
                let page = visitor.page(&server, path).await;
                assert_eq!(page.contains("may stay good for as long as 15 minutes"), check == "refresh", "{page}");
            }
        }
    }

    async fn what_is_not_ones_own_is_not_there(server: Server) {
        server.add_user("ada", PASSWORD, &[]);
        let (visitor, theirs) = (Visitor::of(&server, "ada", PASSWORD).await, server.login().await);
        let (sid, jti) = (sid_of(&theirs.access), jti_of(&theirs.access));
        for id in [sid.as_str(), &jti, "0190a5a0-0000-7000-8000-000000000001", "no-id", "%00", "%27%3B--"] {
            for path in [format!("/console/sessions/{id}"), format!("/console/sessions/{id}/end"), format!("/console/tokens/{id}/label"), format!("/console/personal/{id}/revoke")] {
                visitor.get(&server, &path).send().await.html(404);
            }
            for path in [format!("/console/sessions/{id}/end"), format!("/console/tokens/{id}/label"), format!("/console/personal/{id}/revoke"), format!("/console/personal/{id}/unrevoke")] {
                visitor.post(&server, &path, &[("label", "mine")]).await.html(404);
            }
        }
        server.accepts(&theirs.access).await;
        visitor.get(&server, "/console/nowhere").send().await.html(404);
        server.get("/console/nowhere").send().await.html(404);
        server.get("/consoles").send().await.error(404, "not_found");
    }

    async fn one_changes_ones_password(server: Server) {
        let new = "another long password";
        let (visitor, pair) = (Visitor::admin(&server).await, server.login().await);
        let change = async |current: &str, new: &str, again: &str, end: bool| {
            let mut fields = vec![("current", current), ("new", new), ("again", again)];
            fields.extend(end.then_some(("end_others", "true")));
            visitor.post(&server, "/console/password", &fields).await
        };
        for (current, new, again, id) in [
            ("wrong", new, new, "current-error"),
            (PASSWORD, new, "other", "again-error"),
            (PASSWORD, "short", "short", "new-error"),
        ] {
            let page = change(current, new, again, true).await.html(422);
            assert!(page.contains(&format!("id=\"{id}\"")), "{id}: {page}");
            assert!(!page.contains(PASSWORD) && !page.contains(new), "{page}");
        }
        server.accepts(&pair.access).await;
        let answer = change(PASSWORD, new, new, false).await;
        assert_eq!(answer.see_other(), "/console/password?done=password-changed");
        server.accepts(&pair.access).await;
        let answer = change(new, PASSWORD, PASSWORD, true).await;
        assert_eq!(answer.see_other(), "/console/password?done=password-changed-others-ended");
        server.refuses(&pair.access, "token_revoked").await;
        visitor.page(&server, "/console/password?done=password-changed-others-ended").await;
        Visitor::admin(&server).await;
    }

    async fn a_session_ends_in_the_middle_of_a_page(server: Server) {
        let visitor = Visitor::admin(&server).await;
        let page = visitor.page(&server, "/console/personal/new").await;
        assert_eq!(csrf_of(&page), visitor.csrf);
        server.advance(12 * 60 * 60 - 1);
        visitor.page(&server, "/console/personal/new").await;
        server.advance(1);
        let answer = visitor.get(&server, "/console/personal/new").send().await;
        assert_eq!(answer.see_other(), "/console/sign-in?next=%2Fconsole%2Fpersonal%2Fnew&done=expired");
        is_signed_out(&answer);
        let answer = visitor.post(&server, "/console/personal/new", &[("label", "x"), ("expires", "2030-01-01")]).await;
        assert_eq!(answer.see_other(), "/console/sign-in?next=%2Fconsole%2Fpersonal%2Fnew&done=expired");
        let page = server.get("/console/sign-in?done=expired").send().await.html(200);
        assert!(page.contains("Your session is over."), "{page}");
    }

    async fn who_may_not_log_in_any_more_is_signed_out(server: Server) {
        server.add_user("ada", PASSWORD, &["notes:read"]);
        let ada = Visitor::of(&server, "ada", PASSWORD).await;
        server.command_ok(&["user", "disable", "ada"], "");
        is_signed_out(&ada.get(&server, "/console/sessions").send().await);
        sign_in(&server, "ada", PASSWORD, &[]).await.html(422);
        server.command_ok(&["user", "enable", "ada"], "");
        is_signed_out(&ada.get(&server, "/console/sessions").send().await);
        // Were the session left over, the account alone would decide.
        let ada = Visitor::of(&server, "ada", PASSWORD).await;
        server.sql("update cf_users set disabled = true where username = 'ada'").await;
        is_signed_out(&ada.get(&server, "/console/sessions").send().await);
        server.sql("delete from cf_users where username = 'ada'").await;
        is_signed_out(&ada.get(&server, "/console/sessions").send().await);
        // A subject of the application has no account here.
        let admin = Visitor::admin(&server).await;
        let pair = server.login().await;
        let others = server.post("/auth/tokens/revoke-all").bearer(&pair.access).json(&json!({})).send().await;
        others.ok(200);
        is_signed_out(&admin.get(&server, "/console/sessions").send().await);
    }

    async fn signing_in_again_ends_the_session_before(server: Server) {
        let before = Visitor::admin(&server).await;
        let key = form_key(&server).await;
        let cookies = format!("{}; {FORM_COOKIE}={key}", before.cookie());
        let fields = [("csrf", key.as_str()), ("username", ADMIN), ("password", PASSWORD)];
        let answer = server.post("/console/sign-in").header("Cookie", &cookies).form(&fields).send().await;
        assert_eq!(answer.see_other(), "/console");
        is_signed_out(&before.get(&server, "/console/sessions").send().await);
    }

    async fn it_can_be_switched_off(database: Database) {
        let server = Server::start(database, |settings| settings.set("console", json!({ "enabled": false }))).await;
        for path in ["/console", "/console/sign-in", "/console/sessions", "/console/static/console.css"] {
            let answer = server.get(path).send().await;
            answer.error(404, "not_found");
        }
    }
}

/// The token of the console is refused by all that takes tokens.
async fn is_refused_everywhere(server: &Server, visitor: &Visitor) {
    let token = &visitor.token;
    server.refuses(token, "token_invalid").await;
    for (method, path) in [
        ("GET", "/auth/sessions".to_owned()),
        ("GET", "/auth/tokens".to_owned()),
        ("POST", "/auth/tokens/revoke-all".to_owned()),
        ("GET", "/auth/check".to_owned()),
        ("GET", format!("/auth/check?audience={ISSUER}/console")),
        ("GET", format!("/auth/check?audience={ISSUER}")),
        ("GET", "/auth/all-tokens".to_owned()),
        ("GET", format!("/protected?jwt={token}")),
    ] {
        let call = server.call(method, &path);
        let call = if path.contains("jwt=") { call } else { call.bearer(token) };
        call.send().await.error(401, "token_invalid");
    }
    for (method, path) in [("POST", "/refresh"), ("POST", "/logout")] {
        server.call(method, path).bearer(token).send().await.error(401, "token_invalid");
        let body = json!({ "refresh_token": token, "access_token": token });
        server.call(method, path).json(&body).send().await.error(401, "token_invalid");
    }
    let body = json!({ "label": "x" });
    server.post("/auth/tokens").bearer(token).json(&body).send().await.error(401, "token_invalid");
    let body = json!({ "current": PASSWORD, "new": "a long new password" });
    server.post("/auth/password").bearer(token).json(&body).send().await.error(401, "token_invalid");
    let cookie = format!("access_token_cookie={token}");
    let call = server.get("/protected").header("Cookie", &cookie).header("X-CSRF-TOKEN", &visitor.csrf);
    call.send().await.error(401, "token_invalid");
    // Browsers send its cookie to every path.
    for (method, path) in [
        ("GET", "/protected"),
        ("GET", "/auth/check"),
        ("GET", "/auth/sessions"),
        ("GET", "/admin/overview"),
        ("POST", "/auth/tokens/revoke-all"),
        ("POST", "/refresh"),
        ("POST", "/logout"),
    ] {
        let call = server.call(method, path).header("Cookie", &visitor.cookie()).header("X-CSRF-TOKEN", &visitor.csrf);
        call.send().await.error(401, "token_missing");
    }
    // Whoever asks about it learns nothing, also for its own audience.
    let name = format!("api-{}", uuid::Uuid::new_v4().simple());
    let audience = format!("{ISSUER}/console");
    for audiences in [&["--audience", audience.as_str()][..], &[]] {
        let options = [&["--scope", "tokens:introspect"][..], audiences].concat();
        let client = server.add_client(&format!("{name}{}", audiences.len()), &options);
        assert_eq!(server.introspect(&client, token).await, json!({ "active": false }));
        server
            .post("/oauth/introspect")
            .bearer(token)
            .form(&[("token", token)])
            .send()
            .await
            .oauth_error(401, "invalid_token");
        server.get("/revocations").bearer(token).send().await.error(401, "token_invalid");
    }
    refused_by_the_library(&server.registry, token).await;
}

async fn refused_by_the_library(registry: &Registry, token: &str) {
    use counterfoil::{AudienceRule, Denial, Expect};

    let audience = format!("{ISSUER}/console");
    for rule in [AudienceRule::Own, AudienceRule::Any, AudienceRule::Exactly(&audience)] {
        for expect in [Expect::access(), Expect::either(), Expect::access().even_expired()] {
            assert_eq!(registry.check(token, expect.audience(rule)).await.unwrap_err(), Denial::Invalid, "{rule:?}");
        }
    }
}

#[test]
fn files_are_asked_for_once() {
    crate::support::run(async {
        let server = Server::start(Database::Sqlite, |settings| settings).await;
        let page = server.get("/console/sign-in").send().await.html(200);
        let mut found = 0;
        for part in page.split('"').filter(|part| part.starts_with("/console/static/")) {
            let answer = server.get(part).send().await;
            assert_eq!(answer.status, 200, "{part}");
            assert_eq!(answer.header("Cache-Control"), Some("public, max-age=31536000, immutable"), "{part}");
            assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
            let tag = answer.header("ETag").unwrap();
            let again = server.get(part).header("If-None-Match", &format!("\"x\", {tag}")).send().await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{part}");
            let name = part.split('?').next().unwrap();
            for address in [name.to_owned(), format!("{name}?v=0")] {
                let answer = server.get(&address).send().await;
                assert_eq!((answer.status, answer.header("Cache-Control")), (200, Some("no-cache")), "{address}");
            }
            // Also where the browser has cookies of the API.
            found += 1;
        }
        assert!(found >= 3, "{page}");
        for bad in ["/console/static/x", "/console/static/..%2Fmod.rs", "/console/static/"] {
            server.get(bad).send().await.html(404);
        }
    });
}

#[test]
fn pages_of_other_origins_get_nothing_of_it() {
    crate::support::run(async {
        let server = Server::start(Database::Sqlite, |settings| {
            settings
                .set("cors", json!({ "origins": ["https://app.example"] }))
                .set("locations", json!(["header", "cookie"]))
        })
        .await;
        let visitor = Visitor::admin(&server).await;
        let answer = visitor.get(&server, "/console/sessions").header("Origin", "https://app.example").send().await;
        answer.html(200);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
        let call = server.call("OPTIONS", "/console/password").header("Origin", "https://app.example");
        let answer = call.header("Access-Control-Request-Method", "POST").send().await;
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{answer:?}");
    });
}
