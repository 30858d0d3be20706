//! What the parameters of a residual attention block are called, library by library.

/// Parameter names of self-attention, below its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionNames {
    /// Weights of queries, keys and values: one parameter for all three, or one for each.
    pub input: &'static [&'static str],
    /// Biases, packed or apart; one that is absent is zero, and without any there is no bias.
    pub input_bias: &'static [Option<&'static str>],
    /// The output projection.
    pub output: &'static str,
    /// Norms of queries and keys.
    pub qk_norm: [&'static str; 2],
    /// The norm before the output projection.
    pub inner_norm: &'static str,
}

/// Parameter names of an MLP, below its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpNames {
    /// The norm of the input.
    pub input_norm: &'static str,
    /// The first layer; its activation is applied.
    pub hidden: &'static str,
    /// The layer beside it in gated MLPs, without activation.
    pub gate: &'static str,
    /// The norm of the hidden features.
    pub norm: &'static str,
    /// The second layer.
    pub output: &'static str,
}

/// Parameter names of one residual branch, below the scope of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchNames {
    /// Scope of the branch itself.
    pub scope: &'static str,
    /// Its norm.
    pub norm: &'static str,
    /// LayerScale.
    pub scale: &'static str,
}

/// Parameter names of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNames {
    /// The branch of attention.
    pub attention: BranchNames,
    /// What is in it.
    pub attn: AttentionNames,
    /// The branch of the MLP.
    pub mlp: BranchNames,
    /// What is in it.
    pub fc: MlpNames,
}

impl AttentionNames {
    /// One packed weight, `torch.nn.MultiheadAttention`'s names.
    pub const TORCH: Self = Self {
        input: &["in_proj_weight"],
        input_bias: &[Some("in_proj_bias")],
        output: "out_proj",
        qk_norm: ["ln_q", "ln_k"],
        inner_norm: "ln_inner",
    };

    /// One packed weight, timm's names.
    pub const TIMM: Self = Self {
        input: &["qkv.weight"],
        input_bias: &[Some("qkv.bias")],
        output: "proj",
        qk_norm: ["q_norm", "k_norm"],
        inner_norm: "norm",
    };
}

impl BlockNames {
    /// The reference's `ResidualAttentionBlock` and `CustomResidualAttentionBlock`.
    pub const OPEN_CLIP: Self = Self {
        attention: BranchNames { scope: "attn", norm: "ln_1", scale: "ls_1.gamma" },
        attn: AttentionNames::TORCH,
        mlp: BranchNames { scope: "mlp", norm: "ln_2", scale: "ls_2.gamma" },
        fc: MlpNames { input_norm: "", hidden: "c_fc", gate: "c_gate", norm: "ln", output: "c_proj" },
    };

    /// timm's vision transformers.
    pub const TIMM: Self = Self {
        attention: BranchNames { scope: "attn", norm: "norm1", scale: "ls1.gamma" },
        attn: AttentionNames::TIMM,
        mlp: BranchNames { scope: "mlp", norm: "norm2", scale: "ls2.gamma" },
        fc: MlpNames { input_norm: "", hidden: "fc1", gate: "fc1_x", norm: "norm", output: "fc2" },
    };
}
