"""The nodes by ID. The IDs and input names are the public interface: saved workflows depend on them."""

from .control_net import KolorsControlNetLoader
from .image_prompt import (
    KolorsImagePromptApply,
    KolorsImagePromptCombine,
    KolorsImagePromptEncode,
    KolorsImagePromptLoad,
    KolorsImagePromptSave,
)
from .image_size import KolorsImageSize
from .ip_adapter import KolorsFaceIDApply, KolorsIPAdapterApply, KolorsIPAdapterLoader
from .loaders import KolorsChatGLM3Loader, KolorsCheckpointLoader, KolorsUNETLoader
from .lora import KolorsLoraLoader
from .prompt import KolorsConditioningLoad, KolorsConditioningSave, KolorsPromptEncode
from .sampling import KolorsKSampler, KolorsModelSampling, KolorsScheduler

NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        KolorsUNETLoader,
        KolorsChatGLM3Loader,
        KolorsCheckpointLoader,
        KolorsPromptEncode,
        KolorsConditioningSave,
        KolorsConditioningLoad,
        KolorsImageSize,
        KolorsKSampler,
        KolorsScheduler,
        KolorsModelSampling,
        KolorsLoraLoader,
        KolorsControlNetLoader,
        KolorsIPAdapterLoader,
        KolorsIPAdapterApply,
        KolorsImagePromptEncode,
        KolorsImagePromptCombine,
        KolorsImagePromptSave,
        KolorsImagePromptLoad,
        KolorsImagePromptApply,
        KolorsFaceIDApply,
    )
}
NODE_DISPLAY_NAME_MAPPINGS = {name: node.TITLE for name, node in NODE_CLASS_MAPPINGS.items()}
