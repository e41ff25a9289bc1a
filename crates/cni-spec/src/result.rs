//! The result of an ADD, in the shape that each version of the contract has.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::error::{Code, Error};
use crate::version::Version;

/// What this plugin made. Indexes count from its own first interface; those of plugins before it in the
/// chain are put in front when it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// All links, the host's side too.
    pub interfaces: Vec<Interface>,
    /// The addresses, each with its prefix length as it stands on the link.
    pub ips: Vec<IpConfig>,
    /// The routes in the container.
    pub routes: Vec<Route>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name where it lives.
    pub name: String,
    /// `02:00:5e:10:00:01`
    pub mac: String,
    /// The MTU in bytes; written from 1.1.0 on.
    pub mtu: u32,
    /// `CNI_NETNS` to the letter for a link in the container; none for one on the host.
    pub sandbox: Option<String>,
}

/// An address of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// `10.0.1.17/32`
    pub address: IpNet,
    /// Which of [`AddResult::interfaces`] it is on.
    pub interface: usize,
}

/// A route in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `0.0.0.0/0`
    pub dst: IpNet,
    /// The next hop.
    pub gw: IpAddr,
}

/// What a CHECK reads of the result that the whole chain made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenResult {
    /// The links of containers: name, `CNI_NETNS`, and MAC where one is said.
    pub links: Vec<SeenLink>,
    /// All addresses.
    pub addresses: Vec<IpNet>,
}

/// A container's link in a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLink {
    /// `eth0`
    pub name: String,
    /// `CNI_NETNS` at ADD.
    pub sandbox: String,
    /// `02:00:5e:10:00:01`; a plugin after this one may have changed it.
    pub mac: Option<String>,
}

impl SeenResult {
    pub(crate) fn read(prev: &Value) -> Result<Self, Error> {
        let list = |key: &str| match prev.get(key) {
            None | Some(Value::Null) => Ok(&[][..]),
            Some(Value::Array(list)) => Ok(list.as_slice()),
            Some(_) => Err(bad_prev(&format!("its \"{key}\" is not a list"))),
        };
        let text = |value: &Value, key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if !prev.is_object() {
            return Err(bad_prev("it is not an object"));
        }
        let links = list("interfaces")?.iter().filter_map(|link| {
            Some(SeenLink {
                name: text(link, "name")?,
                sandbox: text(link, "sandbox")?,
                mac: text(link, "mac"),
            })
        });
        let addresses = list("ips")?.iter().map(|ip| {
            let address = text(ip, "address").unwrap_or_default();
            address
                .parse()
                .map_err(|_| bad_prev(&format!("{address:?} in its \"ips\" is no address")))
        });
        Ok(Self {
            links: links.collect(),
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    }
}

impl AddResult {
    /// The result at `version`, with all that `prev` had: "the output must contain everything it had"
    /// (SPEC.md, ADD). Route keys that only 1.1.0 has are never written, so no older reader meets them.
    ///
    /// # Errors
    /// Code 6 when `prev` is no result.
    pub fn write(&self, version: Version, prev: Option<&Value>) -> Result<Value, Error> {
        let mut result = match prev {
            None => Map::new(),
            Some(Value::Object(prev)) => prev.clone(),
            Some(_) => return Err(bad_prev("it is not an object")),
        };
        result.insert("cniVersion".into(), json!(version.as_str()));
        let before = take_list(&mut result, "interfaces")?;
        let offset = before.len();
        put_list(
            &mut result,
            "interfaces",
            before,
            self.interfaces.iter().map(|i| i.write(version)),
        );
        let mut before = take_list(&mut result, "ips")?;
        before.iter_mut().for_each(|ip| shape_ip(ip, version));
        put_list(
            &mut result,
            "ips",
            before,
            self.ips.iter().map(|ip| ip.write(version, offset)),
        );
        let before = take_list(&mut result, "routes")?;
        put_list(
            &mut result,
            "routes",
            before,
            self.routes.iter().map(Route::write),
        );
        if result
            .get("dns")
            .is_some_and(|dns| dns.as_object().is_none_or(Map::is_empty))
        {
            result.remove("dns");
        }
        Ok(Value::Object(result))
    }
}

impl Interface {
    fn write(&self, version: Version) -> Value {
        let mut object = json!({"name": self.name, "mac": self.mac});
        if let Some(sandbox) = &self.sandbox {
            put(&mut object, "sandbox", json!(sandbox));
        }
        if version >= Version::V1_1_0 {
            put(&mut object, "mtu", json!(self.mtu));
        }
        object
    }
}

impl IpConfig {
    fn write(&self, version: Version, offset: usize) -> Value {
        let mut object = json!({
            "address": self.address.to_string(),
            "interface": self.interface.saturating_add(offset),
        });
        shape_ip(&mut object, version);
        object
    }
}

impl Route {
    fn write(&self) -> Value {
        json!({"dst": self.dst.to_string(), "gw": self.gw.to_string()})
    }
}

/// Before 1.0.0 each address says its family, "4" or "6"; from then on none does.
fn shape_ip(ip: &mut Value, version: Version) {
    let Some(object) = ip.as_object_mut() else {
        return;
    };
    if version >= Version::V1_0_0 {
        object.remove("version");
    } else if !object.contains_key("version") {
        let v6 = object
            .get("address")
            .and_then(Value::as_str)
            .is_some_and(|a| a.contains(':'));
        object.insert("version".into(), json!(if v6 { "6" } else { "4" }));
    }
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

fn take_list(result: &mut Map<String, Value>, key: &str) -> Result<Vec<Value>, Error> {
    match result.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(bad_prev(&format!("its \"{key}\" is not a list"))),
    }
}

/// Empty lists are left out, as the reference does.
fn put_list(
    result: &mut Map<String, Value>,
    key: &str,
    mut list: Vec<Value>,
    more: impl Iterator<Item = Value>,
) {
    list.extend(more);
    if !list.is_empty() {
        result.insert(key.to_owned(), Value::Array(list));
    }
}

fn bad_prev(what: &str) -> Error {
    Error::new(
        Code::Decode,
        "prevResult is not a CNI result",
        format!("{what}; the plugin before this one in the chain wrote it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> AddResult {
        AddResult {
            interfaces: vec![
                Interface {
                    name: "weir0".into(),
                    mac: "02:00:00:00:00:01".into(),
                    mtu: 9001,
                    sandbox: None,
                },
                Interface {
                    name: "eth0".into(),
                    mac: "02:00:00:00:00:02".into(),
                    mtu: 9001,
                    sandbox: Some("/var/run/netns/x".into()),
                },
            ],
            ips: vec![IpConfig {
                address: "10.0.1.17/32".parse().unwrap(),
                interface: 0,
            }],
            routes: vec![Route {
                dst: "0.0.0.0/0".parse().unwrap(),
                gw: "169.254.1.1".parse().unwrap(),
            }],
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        for version in Version::SUPPORTED {
            let mut host = json!({"name": "weir0", "mac": "02:00:00:00:00:01"});
            let mut eth0 = json!({
                "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/var/run/netns/x"
            });
            let mut ip = json!({"address": "10.0.1.17/32", "interface": 0});
            if version == Version::V1_1_0 {
                host["mtu"] = json!(9001);
                eth0["mtu"] = json!(9001);
            }
            if version < Version::V1_0_0 {
                ip["version"] = json!("4");
            }
            assert_eq!(
                pod().write(version, None).unwrap(),
                json!({
                    "cniVersion": version.as_str(),
                    "interfaces": [host, eth0],
                    "ips": [ip],
                    "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
                }),
                "{version}"
            );
        }
    }

    #[test]
    fn an_ipv6_address_says_so_before_1_0_0() {
        let result = AddResult {
            ips: vec![IpConfig {
                address: "2001:db8::1/128".parse().unwrap(),
                interface: 0,
            }],
            ..AddResult::default()
        };
        let written = result.write(Version::V0_3_1, None).unwrap();
        assert_eq!(written["ips"][0]["version"], "6");
        assert!(written.get("interfaces").is_none() && written.get("routes").is_none());
    }

    #[test]
    fn everything_that_prev_result_had_is_kept_and_ours_follows() {
        let prev = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "br0", "pciID": "0000:00:1f.6"}],
            "ips": [{"address": "192.0.2.9/24", "interface": 0, "gateway": "192.0.2.1"}],
            "routes": [{"dst": "192.0.2.0/24"}],
            "dns": {"nameservers": ["192.0.2.53"]},
            "theirs": [1, 2],
        });
        let written = pod().write(Version::V1_0_0, Some(&prev)).unwrap();
        assert_eq!(written["interfaces"][0], prev["interfaces"][0]);
        assert_eq!(written["interfaces"][2]["name"], "eth0");
        assert_eq!(written["ips"][0], prev["ips"][0]);
        assert_eq!(written["ips"][1]["interface"], 1, "moved behind br0");
        assert_eq!(written["routes"][0], prev["routes"][0]);
        assert_eq!(written["routes"][1]["gw"], "169.254.1.1");
        assert_eq!(written["dns"], prev["dns"]);
        assert_eq!(written["theirs"], prev["theirs"]);
    }

    #[test]
    fn an_empty_dns_is_left_out() {
        for prev in [json!({"dns": {}}), json!({"dns": null})] {
            let written = pod().write(Version::V1_0_0, Some(&prev)).unwrap();
            assert!(written.get("dns").is_none());
        }
    }

    #[test]
    fn a_prev_result_that_is_none_is_refused() {
        for prev in [
            json!([]),
            json!("x"),
            json!({"ips": {}}),
            json!({"interfaces": 1}),
        ] {
            assert_eq!(
                pod()
                    .write(Version::V1_0_0, Some(&prev))
                    .unwrap_err()
                    .code
                    .number(),
                6
            );
        }
    }
}
