//! Identifiers as EC2 writes them, and the seeded generator that they come from.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize,
        )]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The id as EC2 writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A new id.
            pub(crate) fn new(dice: &mut Dice) -> Self {
                Self(format!("{}{}", $prefix, dice.hex17()))
            }

            /// Whether `text` has the form of such an id: the prefix, then 8 or 17 hexadecimal digits.
            #[must_use]
            pub fn is_well_formed(text: &str) -> bool {
                text.strip_prefix($prefix).is_some_and(|digits| {
                    (digits.len() == 8 || digits.len() == 17)
                        && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// `i-...`
    InstanceId, "i-"
);
id!(
    /// `eni-...`
    EniId, "eni-"
);
id!(
    /// `eni-attach-...`
    AttachmentId, "eni-attach-"
);
id!(
    /// `subnet-...`
    SubnetId, "subnet-"
);
id!(
    /// `vpc-...`
    VpcId, "vpc-"
);
id!(
    /// `sg-...`
    GroupId, "sg-"
);

id!(
    /// `sgr-...`
    RuleId, "sgr-"
);
id!(
    /// `scr-...`
    ReservationId, "scr-"
);
id!(
    /// `vpc-cidr-assoc-...`
    VpcCidrId, "vpc-cidr-assoc-"
);
id!(
    /// `subnet-cidr-assoc-...`
    SubnetCidrId, "subnet-cidr-assoc-"
);

id!(
    /// `trunk-assoc-...`
    TrunkAssociationId, "trunk-assoc-"
);
id!(
    /// `eni-perm-...`
    EniPermissionId, "eni-perm-"
);

/// The only randomness in a world: SplitMix64 (Steele, Lea and Flood, 2014). Good enough for ids and places in a
/// subnet; seals nothing that must stay secret.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The same seed gives the same sequence.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number from 0 to `bound` - 1; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % bound).unwrap_or(0)
    }

    /// A number from 0 to just under 1.
    pub fn fraction(&mut self) -> f64 {
        // 32 bits are exact in an f64, and more than enough.
        let bits = u32::try_from(self.roll() >> 32).unwrap_or(0);
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    /// The 17 digits of an id. The first is 0, as in nearly all that EC2 gives out.
    fn hex17(&mut self) -> String {
        format!("0{:016x}", self.roll())
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.roll(), self.roll());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            (low >> 48) & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }
}

/// Spreads every bit of `value` over all 64.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_ec2s_and_repeat_with_the_seed() {
        let id = EniId::new(&mut Dice::new(7));
        assert!(EniId::is_well_formed(id.as_str()), "{id}");
        assert_eq!(id, EniId::new(&mut Dice::new(7)));
        assert_ne!(id, EniId::new(&mut Dice::new(8)));
        for bad in [
            "eni-",
            "eni-xyz",
            "eni-0123456789abcdef",
            "i-0123456789abcdef0",
            "notaneni",
        ] {
            assert!(!EniId::is_well_formed(bad), "{bad}");
        }
        let uuid = Dice::new(1).uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
    }
}
