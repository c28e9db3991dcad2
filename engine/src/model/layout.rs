//! The declared order of all parameters in one flat f32 vector.
//!
//! State digests, pseudo-gradients, optimizer moments and checkpoints all use this order, so it is part of
//! the protocol: changing it changes every digest. Matrices are row-major in the Hugging Face orientation
//! `[out, in]`; query, key and value are stacked into one matrix, and so are gate and up. For V = `vocab`, D
//! = `hidden`, F = `ffn`, dh = `head_dim`, the order is
//!
//! ```text
//! embed            [V, D]
//! for each layer:
//!   norm1          [D]
//!   qkv            [(H + 2 KV) dh, D]   all query heads, then all key heads, then all value heads
//!   qkv_bias       [(H + 2 KV) dh]      only with `qkv_bias`
//!   o              [D, H dh]
//!   norm2          [D]
//!   gate_up        [2 F, D]             gate rows, then up rows
//!   down           [D, F]
//! norm             [D]
//! head             [V, D]               only without `tied_embeddings`
//! ```
//!
//! This module never holds parameter values and never reads files.

use std::ops::Range;

use thiserror::Error;

use super::config::{ConfigError, MAX_PARAMETERS, ModelConfig};

/// What a parameter is, independent of its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParamKind {
    /// Token embedding `[V, D]`; also the output projection when embeddings are tied.
    Embed,
    /// Weight of the RMSNorm before attention `[D]`.
    Norm1,
    /// Stacked query, key and value projection `[(H + 2 KV) dh, D]`.
    Qkv,
    /// Bias of [`Qkv`](Self::Qkv) `[(H + 2 KV) dh]`.
    QkvBias,
    /// Output projection of attention `[D, H dh]`.
    O,
    /// Weight of the RMSNorm before the feed-forward block `[D]`.
    Norm2,
    /// Stacked gate and up projection `[2 F, D]`.
    GateUp,
    /// Down projection `[D, F]`.
    Down,
    /// Weight of the last RMSNorm `[D]`.
    Norm,
    /// Output projection to the vocabulary `[V, D]`.
    Head,
}

/// The kinds that every layer has, in order; without `qkv_bias` the bias is left out.
const LAYER_KINDS: [ParamKind; 7] = [
    ParamKind::Norm1,
    ParamKind::Qkv,
    ParamKind::QkvBias,
    ParamKind::O,
    ParamKind::Norm2,
    ParamKind::GateUp,
    ParamKind::Down,
];

impl ParamKind {
    /// The last part of the parameter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Norm1 => "norm1",
            Self::Qkv => "qkv",
            Self::QkvBias => "qkv_bias",
            Self::O => "o",
            Self::Norm2 => "norm2",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::Norm => "norm",
            Self::Head => "head",
        }
    }

    /// Whether this is the weight of an RMSNorm.
    pub const fn is_norm(self) -> bool {
        matches!(self, Self::Norm1 | Self::Norm2 | Self::Norm)
    }

    /// Whether this is a matrix; norms and biases are vectors.
    pub const fn is_matrix(self) -> bool {
        !self.is_norm() && !matches!(self, Self::QkvBias)
    }

    /// `(rows, cols)`; a vector has one column. `config` must have been validated.
    const fn shape(self, config: &ModelConfig) -> (usize, usize) {
        match self {
            Self::Embed | Self::Head => (config.vocab, config.hidden),
            Self::Norm1 | Self::Norm2 | Self::Norm => (config.hidden, 1),
            Self::Qkv => (config.qkv_rows(), config.hidden),
            Self::QkvBias => (config.qkv_rows(), 1),
            Self::O => (config.hidden, config.attention_width()),
            Self::GateUp => (2 * config.ffn, config.hidden),
            Self::Down => (config.hidden, config.ffn),
        }
    }
}

/// One parameter: what it is and where it lies in the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    /// `embed`, `layers.N.KIND` with N counted from 0, `norm` or `head`.
    pub name: String,
    /// What it is.
    pub kind: ParamKind,
    /// Its layer, counted from 0; `None` for `embed`, `norm` and `head`.
    pub layer: Option<usize>,
    /// Number of rows (outputs of a matrix; the length of a vector).
    pub rows: usize,
    /// Number of columns (inputs of a matrix; 1 for a vector).
    pub cols: usize,
    /// Index of its first value in the flat vector.
    pub offset: usize,
    /// Number of values: `rows * cols`.
    pub len: usize,
    /// Whether weight decay applies: to matrices and the embedding, not to norms and biases.
    pub decay: bool,
}

impl ParamSpec {
    /// The indices of this parameter's values in the flat vector.
    pub const fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Why a parameter cannot be looked up in a flat vector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The model has no such parameter.
    #[error("this model has no parameter `{}` in layer {layer:?}", kind.name())]
    NoSuchParam {
        /// The kind asked for.
        kind: ParamKind,
        /// The layer asked for.
        layer: Option<usize>,
    },
    /// The vector belongs to another model.
    #[error("the flat vector holds {found} values; this model has {expected}")]
    WrongLength {
        /// Length of the vector given.
        found: usize,
        /// [`Layout::total`].
        expected: usize,
    },
}

/// The declared order of one model's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    config: ModelConfig,
    params: Vec<ParamSpec>,
    total: usize,
}

impl Layout {
    /// Lays out the parameters of `config`. Allocates one small record per parameter, none per value.
    ///
    /// # Errors
    /// What [`ModelConfig::validate`] refuses, and a model whose length this platform's `usize` cannot hold.
    pub fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let total = usize::try_from(config.parameters()?)
            .map_err(|_| ConfigError::TooLarge { max: MAX_PARAMETERS })?;
        let mut layout = Self { config: *config, params: Vec::new(), total };
        let mut offset = 0;
        layout.push(ParamKind::Embed, None, &mut offset);
        for layer in 0..config.layers {
            for kind in LAYER_KINDS {
                if kind != ParamKind::QkvBias || config.qkv_bias {
                    layout.push(kind, Some(layer), &mut offset);
                }
            }
        }
        layout.push(ParamKind::Norm, None, &mut offset);
        if !config.tied_embeddings {
            layout.push(ParamKind::Head, None, &mut offset);
        }
        debug_assert_eq!(offset, total, "the layout and ModelConfig::parameters count differently");
        Ok(layout)
    }

    /// Appends one parameter. The sums cannot overflow: validation bounded the whole model.
    fn push(&mut self, kind: ParamKind, layer: Option<usize>, offset: &mut usize) {
        let (rows, cols) = kind.shape(&self.config);
        let name = match layer {
            Some(layer) => format!("layers.{layer}.{}", kind.name()),
            None => kind.name().to_owned(),
        };
        let len = rows * cols;
        self.params.push(ParamSpec {
            name,
            kind,
            layer,
            rows,
            cols,
            offset: *offset,
            len,
            decay: kind.is_matrix(),
        });
        *offset += len;
    }

    /// The configuration that was laid out.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All parameters in declared order; each begins where the one before ends, the first at 0.
    pub fn params(&self) -> &[ParamSpec] {
        &self.params
    }

    /// Length of the flat vector.
    pub const fn total(&self) -> usize {
        self.total
    }

    /// The parameter of that kind in that layer (`None` for `embed`, `norm` and `head`), in constant time.
    pub fn find(&self, kind: ParamKind, layer: Option<usize>) -> Option<&ParamSpec> {
        let per_layer = if self.config.qkv_bias { LAYER_KINDS.len() } else { LAYER_KINDS.len() - 1 };
        let index = match (kind, layer) {
            (ParamKind::Embed, _) => 0,
            (ParamKind::Norm, _) => 1 + self.config.layers * per_layer,
            (ParamKind::Head, _) => 2 + self.config.layers * per_layer,
            (_, layer) => {
                let left_out = |k: &ParamKind| *k == ParamKind::QkvBias && !self.config.qkv_bias;
                let place = LAYER_KINDS.iter().filter(|k| !left_out(k)).position(|k| *k == kind)?;
                layer?.checked_mul(per_layer)?.checked_add(1 + place)?
            }
        };
        self.params.get(index).filter(|param| param.kind == kind && param.layer == layer)
    }

    /// The parameter with that name, by search.
    pub fn by_name(&self, name: &str) -> Option<&ParamSpec> {
        self.params.iter().find(|param| param.name == name)
    }

    /// One parameter's values within `flat`.
    ///
    /// # Errors
    /// [`LayoutError`] if `flat` has another length than [`total`](Self::total) or there is no such
    /// parameter.
    pub fn view<'a>(
        &self,
        flat: &'a [f32],
        kind: ParamKind,
        layer: Option<usize>,
    ) -> Result<&'a [f32], LayoutError> {
        let range = self.range_in(flat.len(), kind, layer)?;
        flat.get(range).ok_or(LayoutError::NoSuchParam { kind, layer })
    }

    /// One parameter's values within `flat`, to be changed.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn view_mut<'a>(
        &self,
        flat: &'a mut [f32],
        kind: ParamKind,
        layer: Option<usize>,
    ) -> Result<&'a mut [f32], LayoutError> {
        let range = self.range_in(flat.len(), kind, layer)?;
        flat.get_mut(range).ok_or(LayoutError::NoSuchParam { kind, layer })
    }

    /// Whether a flat vector of `found` elements is one of this layout.
    ///
    /// # Errors
    /// [`LayoutError::WrongLength`] if it is not.
    pub fn check_length(&self, found: usize) -> Result<(), LayoutError> {
        if found != self.total {
            return Err(LayoutError::WrongLength { found, expected: self.total });
        }
        Ok(())
    }

    fn range_in(
        &self,
        found: usize,
        kind: ParamKind,
        layer: Option<usize>,
    ) -> Result<Range<usize>, LayoutError> {
        self.check_length(found)?;
        self.find(kind, layer).map(ParamSpec::range).ok_or(LayoutError::NoSuchParam { kind, layer })
    }
}

#[cfg(test)]
mod tests {
    use super::super::preset::Preset;
    use super::*;
    use proptest::prelude::*;

    fn config(tied_embeddings: bool, qkv_bias: bool) -> ModelConfig {
        ModelConfig {
            vocab: 10,
            hidden: 8,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 6,
            ffn: 5,
            tied_embeddings,
            qkv_bias,
            ..Preset::Nano.config()
        }
    }

    #[test]
    fn the_declared_order_is_exactly_this() {
        let layout = Layout::new(&config(false, true)).unwrap();
        let order: Vec<_> =
            layout.params().iter().map(|p| (p.name.as_str(), p.rows, p.cols, p.decay)).collect();
        let expected = [
            ("embed", 10, 8, true),
            ("layers.0.norm1", 8, 1, false),
            ("layers.0.qkv", 48, 8, true),
            ("layers.0.qkv_bias", 48, 1, false),
            ("layers.0.o", 8, 24, true),
            ("layers.0.norm2", 8, 1, false),
            ("layers.0.gate_up", 10, 8, true),
            ("layers.0.down", 8, 5, true),
            ("layers.1.norm1", 8, 1, false),
            ("layers.1.qkv", 48, 8, true),
            ("layers.1.qkv_bias", 48, 1, false),
            ("layers.1.o", 8, 24, true),
            ("layers.1.norm2", 8, 1, false),
            ("layers.1.gate_up", 10, 8, true),
            ("layers.1.down", 8, 5, true),
            ("norm", 8, 1, false),
            ("head", 10, 8, true),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn without_bias_and_untied_head_those_two_are_left_out() {
        let layout = Layout::new(&config(true, false)).unwrap();
        let names: Vec<_> = layout.params().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), 1 + 2 * 6 + 1);
        assert!(!names.iter().any(|name| name.contains("bias") || *name == "head"));
        assert_eq!(layout.find(ParamKind::QkvBias, Some(0)), None);
        assert_eq!(layout.find(ParamKind::Head, None), None);
    }

    #[test]
    fn views_lie_where_the_layout_says_and_misuse_is_an_error() {
        let layout = Layout::new(&config(false, true)).unwrap();
        let mut flat: Vec<f32> = (0..layout.total()).map(|i| i as f32).collect();
        let norm2 = layout.find(ParamKind::Norm2, Some(1)).unwrap().clone();
        let view = layout.view_mut(&mut flat, ParamKind::Norm2, Some(1)).unwrap();
        assert_eq!((view.len(), view[0]), (8, norm2.offset as f32));
        view[3] = -1.0;
        assert_eq!(layout.view(&flat, ParamKind::Norm2, Some(1)).unwrap()[3], -1.0);
        assert_eq!(flat[norm2.offset + 3], -1.0);

        let short = &flat[1..];
        let wrong = LayoutError::WrongLength { found: flat.len() - 1, expected: flat.len() };
        assert_eq!(layout.view(short, ParamKind::Norm, None), Err(wrong));
        for (kind, layer) in [
            (ParamKind::Norm, Some(0)),
            (ParamKind::Embed, Some(1)),
            (ParamKind::Qkv, None),
            (ParamKind::Qkv, Some(2)),
            (ParamKind::Down, Some(usize::MAX)),
        ] {
            assert_eq!(layout.view(&flat, kind, layer), Err(LayoutError::NoSuchParam { kind, layer }));
        }
        assert_eq!(layout.by_name("layers.2.qkv"), None);
    }

    #[test]
    fn an_invalid_configuration_has_no_layout() {
        let bad = ModelConfig { layers: 0, ..config(false, false) };
        assert!(matches!(Layout::new(&bad), Err(ConfigError::Size { field: "layers", .. })));
    }

    proptest! {
        #[test]
        fn parameters_tile_the_vector_and_every_lookup_agrees(
            sizes in (1usize..50, 1usize..40, 1usize..5, 1usize..4, 1usize..4, 1usize..5, 1usize..30),
            flags in any::<(bool, bool)>(),
        ) {
            let (vocab, hidden, layers, kv_heads, group, half_dim, ffn) = sizes;
            let layout = Layout::new(&ModelConfig {
                vocab, hidden, layers, heads: kv_heads * group, kv_heads, head_dim: 2 * half_dim, ffn,
                tied_embeddings: flags.0, qkv_bias: flags.1, ..Preset::Nano.config()
            }).unwrap();
            let mut end = 0;
            for param in layout.params() {
                prop_assert_eq!(param.offset, end);
                prop_assert_eq!(param.len, param.rows * param.cols);
                prop_assert_eq!(layout.find(param.kind, param.layer), Some(param));
                prop_assert_eq!(layout.by_name(&param.name), Some(param));
                end = param.range().end;
            }
            prop_assert_eq!(end, layout.total());
            prop_assert_eq!(end as u64, layout.config().parameters().unwrap());
        }
    }
}
