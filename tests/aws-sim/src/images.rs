//! The machine images that there are.

use crate::instance_types::InstanceType;

/// A machine image, as DescribeImages has it. All are EBS-backed, HVM, public, Amazon's, and have the driver that
/// Nitro needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// `ami-...`
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its maker wrote.
    pub description: &'static str,
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
    /// `windows`, if it is.
    pub platform: Option<&'static str>,
    /// The device of the root volume.
    pub root_device: &'static str,
    /// When it was made: RFC 3339.
    pub created: &'static str,
    /// `ImdsSupport: v2.0`: its instances' metadata wants tokens, which get through two hops, if nobody says else.
    pub imds_v2: bool,
}

/// The account that they belong to; made up, its alias is `amazon`.
pub const OWNER: &str = "222233334444";

/// All of them, by id. Those of Windows are in moto 5.2.5 (Apache-2.0); the ids of Amazon Linux are made up.
pub static ALL: [&Image; 4] = [&NANO_2016, &AL2023_X86, &AL2023_ARM, &SERVER_2008];

static NANO_2016: Image = Image {
    id: "ami-03cf127a",
    name: "Windows_Server-2016-English-Nano-Base-2017.10.13",
    description: "Microsoft Windows Server 2016 Nano Locale English AMI provided by Amazon",
    architecture: "x86_64",
    platform: Some("windows"),
    root_device: "/dev/sda1",
    created: "2017-10-13T00:00:00.000Z",
    imds_v2: false,
};

static AL2023_X86: Image = Image {
    id: "ami-0c2b8ca1dad447f8a",
    name: "al2023-ami-2023.9.20251208.0-kernel-6.12-x86_64",
    description: "Amazon Linux 2023 AMI 2023.9.20251208.0 x86_64 HVM kernel-6.12",
    architecture: "x86_64",
    platform: None,
    root_device: "/dev/xvda",
    created: "2025-12-08T00:00:00.000Z",
    imds_v2: true,
};

static AL2023_ARM: Image = Image {
    id: "ami-0d9a665f802ae6227",
    name: "al2023-ami-2023.9.20251208.0-kernel-6.12-arm64",
    description: "Amazon Linux 2023 AMI 2023.9.20251208.0 arm64 HVM kernel-6.12",
    architecture: "arm64",
    platform: None,
    root_device: "/dev/xvda",
    created: "2025-12-08T00:00:00.000Z",
    imds_v2: true,
};

static SERVER_2008: Image = Image {
    id: "ami-12c6146b",
    name: "Windows_Server-2008-R2_SP1-English-64Bit-Base-2017.10.13",
    description: "Microsoft Windows Server 2008 R2 SP1 Datacenter 64-bit Locale English Base AMI provided by Amazon",
    architecture: "x86_64",
    platform: Some("windows"),
    root_device: "/dev/sda1",
    created: "2017-10-13T00:00:00.000Z",
    imds_v2: false,
};

impl Image {
    /// `PlatformDetails`
    #[must_use]
    pub fn platform_details(&self) -> &'static str {
        match self.platform {
            Some(_) => "Windows",
            None => "Linux/UNIX",
        }
    }

    /// What its use is billed as.
    #[must_use]
    pub fn usage_operation(&self) -> &'static str {
        match self.platform {
            Some(_) => "RunInstances:0002",
            None => "RunInstances",
        }
    }
}

/// The image with this id.
#[must_use]
pub fn get(id: &str) -> Option<&'static Image> {
    ALL.iter().copied().find(|image| image.id == id)
}

/// What an instance of this type runs when nobody chose: Amazon Linux 2023.
#[must_use]
pub fn usual(kind: &InstanceType) -> &'static Image {
    if kind.architecture.starts_with("arm64") {
        &AL2023_ARM
    } else {
        &AL2023_X86
    }
}
