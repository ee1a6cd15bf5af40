# As MOOD calls its containers, without network:
#   docker run --network none -v IN:/mnt/data -v OUT:/mnt/pred IMAGE -i /mnt/data -o /mnt/pred --mode sample
# Build with the model folder beside this file: docker build --build-arg MODEL=runs/my_model -t my_submission .
FROM python:3.11-slim
WORKDIR /opt/pixelsleuth
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir .
ARG MODEL
COPY ${MODEL} /opt/model
USER nobody
ENTRYPOINT ["pixelsleuth", "mood", "--model", "/opt/model"]
