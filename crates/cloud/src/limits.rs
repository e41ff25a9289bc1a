//! What an instance type allows, from a table made of EC2's own DescribeInstanceTypes.

use ipam::InstanceLimits;

/// Made by `data/instance-limits.py`, which says from what.
const TABLE: &str = include_str!("../data/instance-limits.csv");

/// What EC2 lets an instance of this type have; none when the type is newer than the table
/// (then [`Ec2::instance_limits`](crate::Ec2::instance_limits) asks EC2).
#[must_use]
pub fn limits_of(instance_type: &str) -> Option<InstanceLimits> {
    TABLE.lines().find_map(|line| {
        let (name, limits) = line.split_once(',')?;
        if name != instance_type {
            return None;
        }
        let mut fields = limits.split(',');
        Some(InstanceLimits {
            enis_per_card: fields
                .next()?
                .split('|')
                .map(|enis| enis.parse().ok())
                .collect::<Option<_>>()?,
            ipv4_slots_per_eni: fields.next()?.parse().ok()?,
            ipv6_slots_per_eni: fields.next()?.parse().ok()?,
            prefixes: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_types_with_one_card_and_with_many() {
        let limits =
            |name| limits_of(name).map(|l| (l.enis_per_card, l.ipv4_slots_per_eni, l.prefixes));
        assert_eq!(limits("t3.medium"), Some((vec![3], 6, true)));
        assert_eq!(limits("m5.large"), Some((vec![3], 10, true)));
        assert_eq!(limits("m5.metal"), Some((vec![15], 50, true)));
        assert_eq!(limits("t2.micro"), Some((vec![2], 2, false)));
        assert_eq!(limits("p4d.24xlarge"), Some((vec![15; 4], 50, true)));
        assert_eq!(limits("p5.48xlarge"), Some((vec![2; 32], 50, true)));
    }

    #[test]
    fn a_type_that_is_not_in_the_table_has_no_limits_in_it() {
        assert_eq!(limits_of("m99.colossal"), None);
        assert_eq!(limits_of("m5.larg"), None);
        assert_eq!(limits_of("type"), None);
        assert_eq!(limits_of(""), None);
    }

    #[test]
    fn every_line_of_the_table_can_be_read() {
        let types: Vec<_> = TABLE
            .lines()
            .filter(|line| !line.starts_with('#'))
            .skip(1)
            .filter_map(|line| line.split(',').next())
            .collect();
        assert!(types.len() > 1000, "only {} types", types.len());
        for name in types {
            let limits = limits_of(name).unwrap_or_else(|| panic!("{name} can't be read"));
            assert!(
                limits.max_enis() >= 1 && limits.ipv4_slots_per_eni >= 2,
                "{name}"
            );
        }
    }
}
