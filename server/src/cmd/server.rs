//! What is typed as the address of a broker, and what is wrong with it: told before anybody is asked for a name that
//! cannot be one.

/// What to write instead.
pub(super) const HINT: &str = "write HOST:PORT, as in 127.0.0.1:7420, or http://HOST:PORT; HOST alone means port 7420";

/// Whether this can be the address of a broker.
///
/// **Errors**: what is wrong with it, in words that follow the address.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.contains(char::is_whitespace) {
        return Err("it has blanks".to_owned());
    }
    let authority = match text.split_once("://") {
        None => text,
        Some((scheme, authority)) if scheme.eq_ignore_ascii_case("http") => authority,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err("https:// is not served yet".to_owned());
        }
        Some((scheme, _)) => return Err(format!("{scheme}:// is not served")),
    };
    let authority = authority.trim_end_matches('/');
    if authority.contains(['/', '?', '#']) {
        return Err("it has a path".to_owned());
    }
    let (host, port) = match authority.rsplit_once(']') {
        // Colons within brackets are of the host.
        Some((host, "")) => (host, None),
        Some((host, behind)) => match behind.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return Err(format!("{behind} stands behind its host")),
        },
        None if authority.matches(':').count() > 1 => {
            return Err("an IPv6 address stands in brackets, as in [::1]:7420".to_owned());
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.trim_start_matches('[').is_empty() {
        return Err("it has no host".to_owned());
    }
    port.map_or(Ok(()), check_port)
}

fn check_port(port: &str) -> Result<(), String> {
    if port.is_empty() {
        return Err("it has no port behind the colon".to_owned());
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("its port {port} is no number"));
    }
    match port.parse::<u16>() {
        Ok(0) => Err("nobody listens at port 0".to_owned()),
        Ok(_) => Ok(()),
        Err(_) => Err(format!("its port {port} is above {}", u16::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_an_address_is_left_to_the_client() {
        for text in ["localhost", "127.0.0.1:7420", "http://broker:80/", "[::1]", "HTTP://[::1]:7420", "a.b.c:65535"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, wrong) in [("", "it has no host"), ("http://", "it has no host"), ("[]:1", "it has no host")] {
            assert_eq!(check(text), Err(wrong.to_owned()), "{text}");
        }
        assert_eq!(check("[::1]x"), Err("x stands behind its host".to_owned()));
        assert_eq!(check("localhost:0"), Err("nobody listens at port 0".to_owned()));
        assert_eq!(check("[::1]:65536"), Err("its port 65536 is above 65535".to_owned()));
    }
}
