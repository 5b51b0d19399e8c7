//! The settings of SAELens' `cfg.json` that change nothing of what an SAE computes: of the classes
//! of version 6, whose trainings add all settings of their runner, and of the flat files before.

use crate::formats::settings::Harmless;

pub(super) const HARMLESS: Harmless = &[
    (
        "numbers are read as they stand, and computed with in f32 on the CPU",
        "dtype device llm_device act_store_device autocast* compile_* llm_compilation_mode \
         sae_compilation_mode",
    ),
    (
        "what the SAE reads is named by model_name and hook_name",
        "hook_layer hook_point_layer hook_head_index hook_point_head_index hook_eval \
         model_class_name model_kwargs model_from_pretrained_kwargs neuronpedia_id",
    ),
    (
        "what activations it was trained on",
        "dataset_* prepend_bos streaming is_dataset_tokenized use_chat_formatting \
         use_cached_activations cached_activations_path n_batches_in_buffer \
         n_batches_for_norm_estimate training_tokens store_batch_size* train_batch_size* seqpos* \
         disable_concat_sequences sequence_separator_token exclude_special_tokens \
         activations_mixing_fraction prefetch_llm_batches tokens_per_buffer",
    ),
    (
        "how it was trained",
        "seed adam_beta* lr lr_* n_restart_cycles total_training_* dead_feature_* feature_* \
         resample_batches expansion_factor decoder_* b_dec_init_method normalize_sae_decoder \
         noise_scale init_encoder_as_decoder_transpose scale_sparsity_penalty_by_decoder_norm l1_* \
         lp_norm l0_* target_l0 mse_loss_normalization use_ghost_grads pre_act_loss_coefficient \
         jumprelu_* aux_loss_coefficient use_sparse_activations topk_threshold_lr matryoshka_widths \
         use_matryoshka_aux_loss finetuning_tokens finetuning_method",
    ),
    (
        "what was logged and kept",
        "logger log_* wandb_* run_name eval_* n_eval_* n_checkpoints checkpoint_path \
         save_final_checkpoint output_path from_pretrained_path resume resume_from_checkpoint verbose \
         sae_lens_version sae_lens_training_version",
    ),
];
