"""The whole configuration: one section a concern."""

from genrecall.config.base import Section
from genrecall.config.data import DataSection
from genrecall.config.encoder import EncoderSection
from genrecall.config.evaluation import EvaluationSection
from genrecall.config.generator import GeneratorSection
from genrecall.config.logs import LogsSection
from genrecall.config.opensearch import OpenSearchSection
from genrecall.config.quantizer import QuantizerSection
from genrecall.config.run import RunSection
from genrecall.config.server import ServerSection


class Config(Section):
    run: RunSection = RunSection()
    data: DataSection = DataSection()
    logs: LogsSection = LogsSection()
    encoder: EncoderSection = EncoderSection()
    quantizer: QuantizerSection = QuantizerSection()
    generator: GeneratorSection = GeneratorSection()
    server: ServerSection = ServerSection()
    opensearch: OpenSearchSection = OpenSearchSection()
    evaluation: EvaluationSection = EvaluationSection()
